"""Model from a file that `tools/export.py` wrote, with the same `predict` as any other model.

Shapes: N objects that the file gives for an image, n of them kept, K classes.
"""

import logging
import os
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from torch import Tensor

from insta_rtdetr.errors import UserError
from insta_rtdetr.layers.boxes import xyxy_to_cxcywh
from insta_rtdetr.modeling import postprocessing
from insta_rtdetr.modeling.postprocessing import ImageSize, SoftmaxMaskScoringPostprocessor, without_duplicates
from insta_rtdetr.modeling.preprocessing import resize_like_pil
from insta_rtdetr.predict.runtime.session import open_session
from insta_rtdetr.structures import Prediction
from insta_rtdetr.views.augmentation import Augmentation, augmentation_of

from .categories import Categories
from .predictor import Predictor
from .runtime.metadata import Metadata

logger = logging.getLogger(__name__)


class ExportedModel(Predictor):
    """Model that runs an exported file, as `create_model("model.onnx")` makes it.

    Attributes:
        session: session of the runtime that runs the file.
        metadata: metadata in the file.
    """

    def __init__(self, file: str | os.PathLike, device: str = "") -> None:
        """Load a file; see `open_session` for the arguments and errors."""
        self.session = open_session(file, device)
        self.metadata = self.session.metadata
        self.categories = Categories(self.metadata.class_names, self.metadata.category_ids)

    @cached_property
    def augmentation(self) -> Augmentation:
        """Return the flips that the network has seen in training; see `Predictor.augmentation`.

        A file has one input size, so that there are no views of other sizes; a warning says so, once.
        """
        height, width = self.metadata.size
        augmentation = augmentation_of((), True, True, self.metadata.random_flip, self.metadata.max_objects)
        logger.warning("%s, and none of other sizes: the file takes %d x %d pixels", augmentation, width, height)
        return augmentation

    def find(self, images: list[np.ndarray], threshold: float, short_side: int = 0) -> list[Instances]:
        """Find objects in images; see `Predictor.find`.

        Raises:
            UserError: another input size is asked for than the file has.
        """
        if short_side not in (0, min(self.metadata.size)):
            raise UserError(f"short_side is {short_side}, but the file takes {self.metadata.size} pixels.  Omit it.")
        step = len(images) if self.metadata.dynamic_batch else 1
        found = []
        for start in range(0, len(images), step):
            some = images[start : start + step]
            outputs = self.session(prepare(some, self.metadata))
            tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in outputs.items()}
            for i, image in enumerate(some):
                one = {name: values[i] for name, values in tensors.items()}
                found.append(self._instances(one, image.shape[:2], threshold))
        return found

    def _instances(self, outputs: dict[str, Tensor], output_size: tuple[int, int], threshold: float) -> Instances:
        size = ImageSize(output_size, self.metadata.size, self.metadata.size)
        if self.metadata.with_postprocess:
            found = _in_image(outputs, size, threshold)
            boxes, threshold = found.pred_boxes.tensor, self.metadata.nms_threshold
            return found[without_duplicates(boxes, found.scores, found.pred_classes, threshold)]
        kind = getattr(postprocessing, self.metadata.postprocessor)
        prediction = as_prediction(outputs, self.metadata, threshold)
        postprocessor = kind(
            max_objects=prediction.class_logits.shape[1],
            score_threshold=threshold,
            mask_threshold=self.metadata.mask_threshold,
            resize=self.metadata.mask_resize,
            nms_threshold=self.metadata.nms_threshold,
        )
        return postprocessor(prediction, [size])[0]


def prepare(images: list[np.ndarray], metadata: Metadata) -> np.ndarray:
    """Stretch images (H, W, 3), uint8, RGB, to the network's input (B, 3, H, W), float32, 0 to 255."""
    resized = []
    for image in images:
        image = image if metadata.channels == "RGB" else image[:, :, ::-1]
        resized.append(resize_like_pil(torch.tensor(image.transpose(2, 0, 1).copy()), metadata.size))
    return torch.stack(resized).float().numpy()


def as_prediction(outputs: dict[str, Tensor], metadata: Metadata, threshold: float) -> Prediction:
    """Turn the outputs of a file into a prediction with these objects as its queries, for our own postprocessing.

    Args:
        outputs: outputs for one image.
        metadata: metadata in the file.
        threshold: objects with a lower score are left out, so that their masks need not be enlarged.
    """
    scores = outputs.get("class_scores", outputs["scores"])
    is_kept = scores >= threshold
    probs, maps = scores[is_kept].double(), outputs["masks"][is_kept]
    rows, count = torch.arange(len(probs)), len(probs)
    if issubclass(getattr(postprocessing, metadata.postprocessor), SoftmaxMaskScoringPostprocessor):
        logits = torch.full((count, len(metadata.class_names) + 1), -torch.inf, dtype=torch.float64)
        logits[rows, outputs["classes"][is_kept]] = probs.log()
        logits[:, -1] = (1 - probs).log()
    else:
        logits = torch.full((count, len(metadata.class_names)), -torch.inf, dtype=torch.float64)
        logits[rows, outputs["classes"][is_kept]] = probs.logit()
    boxes = None
    if metadata.predicts_boxes:
        height, width = metadata.size
        boxes = xyxy_to_cxcywh(outputs["boxes"][is_kept] / torch.tensor([width, height, width, height]))[None]
    # Each query is its own mask feature: the product with them gives the masks back.
    return Prediction(logits[None].float(), boxes, torch.eye(count)[None], maps[None])


def _in_image(outputs: dict[str, Tensor], size: ImageSize, threshold: float) -> Instances:
    """Turn objects in pixels of the network's input into objects in pixels of the image."""
    is_kept = (outputs["scores"] >= threshold) & (outputs["scores"] > 0)
    height, width = size.output
    scale = torch.tensor([width / size.padded[1], height / size.padded[0]] * 2)
    masks = outputs["masks"][is_kept]
    if size.output != size.padded:
        # Masks are enlarged one by one, because as floats the masks of a large image take much memory.
        enlarged = [F.interpolate(mask[None, None].float(), size.output, mode="bilinear")[0, 0] > 0.5 for mask in masks]
        masks = torch.stack(enlarged) if enlarged else masks.new_zeros(0, height, width)
    instances = Instances(size.output)
    instances.pred_boxes = Boxes(outputs["boxes"][is_kept] * scale)
    instances.pred_masks = masks.bool()
    instances.scores = outputs["scores"][is_kept]
    instances.pred_classes = outputs["classes"][is_kept]
    return instances
