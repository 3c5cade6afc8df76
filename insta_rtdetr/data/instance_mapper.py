"""The mapper of all models: dataset dict -> {"image" (3, H, W), "instances"}."""

import logging
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data import transforms as T

from insta_rtdetr.errors import DatasetError
from insta_rtdetr.image_file import UNREADABLE, read_rgb, reason_unreadable

from .augmentation import RandomView, photometric_distort
from .copy_paste import copy_paste
from .datasets import needs_masks
from .mosaic import mosaic
from .sample import Sample
from .shared_state import SharedIntegers

logger = logging.getLogger(__name__)


class InstanceMapper:
    """Mapper that reads an image and, for training, augments it and makes its targets.

    The switch of the strong augmentation and the list of unreadable images are shared with the copies of the mapper in
    the processes of the data loader.
    """

    @configurable
    def __init__(
        self, is_train: bool, *, image_format: str = "RGB", random_view: RandomView | None = None,
        test_resize: T.ResizeShortestEdge | None = None, photometric_prob: float = 0.0, mosaic_prob: float = 0.0,
        copy_paste_prob: float = 0.0,
        donors: Sequence[dict] | None = None, min_object_size: float = 1.0, max_unreadable: int = 0,
        with_masks: bool = True,
    ):  # fmt: skip
        """Set up the mapper.

        Args:
            is_train: whether the images are for training.
            image_format: order of the image's channels, "RGB" or "BGR".
            random_view: sampler of the view of each training image; by default the whole image.
            test_resize: resize of images that are not for training; by default none.
            photometric_prob: probability of each of the photometric distortions.
            mosaic_prob: probability that an image becomes a mosaic with three donors.
            copy_paste_prob: probability that objects of a donor are pasted into an image.
            donors: dataset dicts for mosaic and copy-paste, see `attach`.
            min_object_size: size in pixels; smaller objects are dropped from the targets.
            max_unreadable: number of different images that may be unreadable before a DatasetError.
            with_masks: whether objects need masks, and targets have them.

        Raises:
            ValueError: the image format is neither RGB nor BGR.
        """
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT must be RGB or BGR, got {image_format!r}.")
        self.is_train = is_train
        self.image_format = image_format
        self.random_view = random_view or RandomView()
        self.test_resize = test_resize
        self.photometric_prob = photometric_prob
        self.mosaic_prob = mosaic_prob
        self.copy_paste_prob = copy_paste_prob
        self.min_object_size = min_object_size
        self.max_unreadable = max_unreadable
        self.with_masks = with_masks
        self._donors: Sequence[dict] = ()
        if donors is not None:
            self.attach(donors)
        # [0]: whether strong augmentation is on; [1]: number of unreadable images; [2:]: checksums of their names.
        self._shared = SharedIntegers(3 + max_unreadable)
        self.set_strong_augmentation(True)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True, donors: list[dict] | None = None) -> dict:
        """Read INPUT.*, DATALOADER.MAX_UNREADABLE_IMAGES, MODEL.STAGE, TEST.TILE and TEST.AUG.

        If donors are needed and not given, they are the images of DATASETS.TRAIN.
        """
        inputs = cfg.INPUT
        settings = {
            "is_train": is_train,
            "image_format": inputs.FORMAT,
            "max_unreadable": cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
        }
        if not is_train and (cfg.TEST.TILE.SIZE or cfg.TEST.AUG.ENABLED):
            return settings  # Tiles and augmented views are made of the image at its own size.
        if not is_train:
            resize = T.ResizeShortestEdge([inputs.MIN_SIZE_TEST, inputs.MIN_SIZE_TEST], inputs.MAX_SIZE_TEST)
            return settings | {"test_resize": resize}
        if max(inputs.COPY_PASTE_PROB, inputs.MOSAIC_PROB) <= 0:
            donors = None
        elif donors is None:
            donors = get_detection_dataset_dicts(cfg.DATASETS.TRAIN)
        return settings | {
            "random_view": RandomView(cfg),
            "photometric_prob": inputs.PHOTOMETRIC_PROB,
            "mosaic_prob": inputs.MOSAIC_PROB,
            "copy_paste_prob": inputs.COPY_PASTE_PROB,
            "donors": donors,
            "min_object_size": inputs.MIN_OBJECT_SIZE,
            "with_masks": needs_masks(cfg),
        }

    def attach(self, donors: Sequence[dict]) -> None:
        """Set the dataset dicts that mosaic and copy-paste draw from.

        A list is packed as Detectron2 packs datasets, so that the processes of the loader share its memory.
        """
        self._donors = DatasetFromList(donors, copy=False) if isinstance(donors, list) else donors

    @property
    def strong_augmentation(self) -> bool:
        """Return whether photometric distortion, zoom-out, crops, jitter, mosaic and copy-paste are on."""
        return bool(self._shared.values[0])

    def set_strong_augmentation(self, is_on: bool) -> None:
        """Turn strong augmentation on or off, here and in all loader processes, for images they begin after this."""
        self._shared.values[0] = is_on

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one image.

        Args:
            dataset_dict: a dict in Detectron2's format; it is not changed.

        Returns:
            The dict without its annotations, with "image", uint8 (3, H, W), and in training "instances": gt_boxes
            (xyxy, in pixels of that image), gt_classes and, if with_masks, gt_masks (BitMasks).  There may be no
            objects.  "height" and "width" are those of the file.  An unreadable image, if
            DATALOADER.MAX_UNREADABLE_IMAGES allows it, becomes a black one without objects: Detectron2's loaders cannot
            leave an image out of an evaluation, and in training those of Detectron2 0.6 cannot replace it under
            Python 3.11.

        Raises:
            DatasetError: the image cannot be read or its size is not the annotation's, or an object has no mask.
        """
        dataset_dict = dict(dataset_dict)
        annotations = dataset_dict.pop("annotations", [])
        image = self._read(dataset_dict)
        if image is None:
            image, annotations = self._black(dataset_dict), []
        elif not self.is_train and self.test_resize is not None:
            image = self.test_resize.get_transform(image).apply_image(image)
        if self.is_train:
            image, dataset_dict["instances"] = self._augment(self._sample(dataset_dict, image, annotations))
        if self.image_format == "BGR":
            image = image[:, :, ::-1]
        dataset_dict["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return dataset_dict

    def _augment(self, sample: Sample):
        is_strong = self.strong_augmentation
        if is_strong and len(self._donors):
            if self.mosaic_prob > 0 and torch.rand(()) < self.mosaic_prob:
                sample = self._mosaic(sample)
            if torch.rand(()) < self.copy_paste_prob:
                sample = self._paste(sample)
        if is_strong:
            sample.image = photometric_distort(sample.image, self.photometric_prob)
        view, kept = self.random_view(*sample.image.shape[:2], sample.boxes_xyxy, is_strong)
        instances = sample.select(kept).instances(view, self.min_object_size, self.with_masks)
        return view.apply_image(sample.image), instances

    def _mosaic(self, sample: Sample) -> Sample:
        donors = [self._draw_donor() for _ in range(3)]
        return sample if any(donor is None for donor in donors) else mosaic([sample, *donors], self.min_object_size)

    def _paste(self, sample: Sample) -> Sample:
        donor = self._draw_donor()
        return sample if donor is None else copy_paste(sample, donor, self.min_object_size)

    def _draw_donor(self) -> Sample | None:
        """Read a random training image with its objects; None if it cannot be read and may be skipped."""
        donor_dict = dict(self._donors[int(np.random.randint(len(self._donors)))])
        image = self._read(donor_dict)
        return None if image is None else self._sample(donor_dict, image, donor_dict.get("annotations", []))

    def _sample(self, dataset_dict: dict, image: np.ndarray, annotations: list[dict]) -> Sample:
        try:
            return Sample.of_annotations(image, annotations, self.with_masks)
        except ValueError as error:
            raise DatasetError(
                f"{dataset_dict['file_name']}: {error}, wanted COCO polygons or RLE.  Correct the annotations."
            ) from None

    def _read(self, dataset_dict: dict) -> np.ndarray | None:
        """Read the image upright, as its EXIF orientation says: uint8 (H, W, 3), RGB; None if it is skipped."""
        try:
            image = read_rgb(dataset_dict["file_name"])
        except UNREADABLE as error:
            self._note_unreadable(dataset_dict["file_name"], error)
            return None
        height, width = image.shape[:2]
        # A dict without a size gets that of the image, as in Detectron2.
        said_height, said_width = dataset_dict.setdefault("height", height), dataset_dict.setdefault("width", width)
        if (height, width) != (said_height, said_width):
            raise DatasetError(
                f"{dataset_dict['file_name']} is {width} x {height} pixels, but its annotation says "
                f"{said_width} x {said_height}.  Correct width and height, or the image."
            )
        return image

    def _note_unreadable(self, file_name: str, error: Exception) -> None:
        """Log an unreadable image, once for each file.

        Raises:
            DatasetError: there is one more than allowed.
        """
        known = self._shared.values
        checksum = zlib.crc32(file_name.encode()) + 1
        if checksum in known[2 : 2 + known[1]]:
            return
        reason = f"{file_name} cannot be read ({reason_unreadable(error)})"
        if known[1] >= self.max_unreadable:
            raise DatasetError(
                f"{reason}.  Mend it, or raise DATALOADER.MAX_UNREADABLE_IMAGES, now {self.max_unreadable}, to skip it."
            )
        known[2 + known[1]] = checksum
        known[1] += 1
        logger.warning(f"{reason}: it is skipped, number {known[1]} of at most {self.max_unreadable}")

    def _black(self, dataset_dict: dict) -> np.ndarray:
        """Make a black image in place of an unreadable one, a small one if its size is not known."""
        height, width = (dataset_dict.setdefault(side, 32) for side in ("height", "width"))
        return np.zeros((height, width, 3), dtype=np.uint8)
