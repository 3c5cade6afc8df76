"""Result of a prediction: the objects that a model found in one image.

Shapes: N objects, (H, W) the image's size in pixels.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pycocotools.mask as coco_mask
from detectron2.structures import Instances
from PIL import Image, ImageShow
from tabulate import tabulate

from insta_rtdetr.atomic import write_text
from insta_rtdetr.errors import UserError
from insta_rtdetr.layers.mask_rle import decode_crop, encode_masks
from insta_rtdetr.layers.rle_masks import RleMasks
from insta_rtdetr.visualization import ColorMemory, MaskCrop, Objects, draw_objects, write_image

from .categories import Categories
from .inputs import Input
from .outputs import IMAGE_ENDINGS, is_file_name, make_folder, refuse_replacing, writing
from .windows import WindowedImage

if TYPE_CHECKING:
    import supervision


@dataclass
class Result:
    """Objects found in one image, the highest score first.

    Attributes:
        image: uint8 (H, W, 3), RGB, the upright image; of a large file that was cut into tiles a `WindowedImage`, which
            reads what it is asked for.
        instances: the objects as Detectron2's `Instances`, on CPU.
        categories: categories of the model.
        source: path or address of the image; "image_3" for the third image of a list in memory.
        frame: number of the frame in a video, from 0; None for an image.
    """

    image: np.ndarray | WindowedImage
    instances: Instances
    categories: Categories
    source: str
    frame: int | None = None

    def __len__(self) -> int:
        return len(self.instances)

    @property
    def boxes(self) -> np.ndarray:
        """Return the boxes (N, 4), float32: left, top, right, bottom in pixels."""
        return self.instances.pred_boxes.tensor.numpy()

    @property
    def masks(self) -> np.ndarray | None:
        """Return the masks (N, H, W), bool; None for a model that finds boxes only.

        All masks of a large image may not fit into the memory; `to_coco` and `to_supervision` give them in run-length
        code.
        """
        return self.instances.pred_masks.numpy() if self.instances.has("pred_masks") else None

    @property
    def scores(self) -> np.ndarray:
        """Return the scores (N,), float32, which are probabilities."""
        return self.instances.scores.numpy()

    @property
    def class_ids(self) -> np.ndarray:
        """Return the class indices (N,), int64, from 0."""
        return self.instances.pred_classes.numpy()

    @property
    def class_names(self) -> list[str]:
        """Return the class names of the N objects."""
        return [self.categories.names[class_id] for class_id in self.class_ids]

    @property
    def track_ids(self) -> np.ndarray | None:
        """Return the numbers of the objects (N,), int64, that `Predictor.track` gives them; None without tracks."""
        return self.instances.track_ids.numpy() if self.instances.has("track_ids") else None

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of objects by class name, the most frequent class first."""
        return dict(Counter(self.class_names).most_common())

    @property
    def file_stem(self) -> str:
        """Return the name, without ending, of files that are written for this result."""
        stem = Path(Input(self.source).path).stem or "image"
        return stem if self.frame is None else f"{stem}_{self.frame:06d}"

    def __str__(self) -> str:
        where = self.source if self.frame is None else f"{self.source}, frame {self.frame}"
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return f"{where}: {counts or 'nothing found'}"

    def print(self) -> None:
        """Write one line about the image and one about each object to stdout."""
        rows = [
            [name, f"{score:.3f}", *box.round(1)] for name, score, box in zip(self.class_names, self.scores, self.boxes)
        ]
        table = tabulate(rows, headers=["class", "score", "left", "top", "right", "bottom"]) if rows else ""
        sys.stdout.write(f"{self}\n{table}\n" if table else f"{self}\n")

    def draw(self, scale: float = 1.0, memory: ColorMemory | None = None) -> np.ndarray:
        """Draw masks, class names and scores over the image: uint8 (H * scale, W * scale, 3), RGB.

        Boxes are drawn where there are no masks, and labels where they hide no object.  Objects of a track have its
        colour and its number.  The frames of a video share a `memory`, so that objects keep their colours.
        """
        masks = self._mask_crops() if self.instances.has("pred_masks") else None
        names = self.categories.names
        objects = Objects(self.boxes, self.class_ids, self.scores, names, masks, self.track_ids)
        return draw_objects(np.asarray(self.image), objects, scale, memory)

    def _mask_crops(self) -> Iterator[MaskCrop]:
        """Yield the masks one after another, because all masks of a large image may not fit into the memory."""
        masks = self.instances.pred_masks
        if not isinstance(masks, RleMasks):
            yield from map(MaskCrop.of, masks.numpy())
            return
        for rle in masks.rles:
            mask, y, x = decode_crop(rle)
            yield MaskCrop(x, y, mask)

    def _rles(self) -> list[dict]:
        masks = self.instances.pred_masks
        return masks.rles if isinstance(masks, RleMasks) else encode_masks(masks)

    def show(self) -> None:
        """Show the drawn image, in a notebook below the cell, else with the system's image viewer.

        Raises:
            UserError: there is no viewer.
        """
        drawn = Image.fromarray(self.draw())
        if _in_notebook():
            from IPython.display import display

            display(drawn)
        elif not ImageShow.show(drawn, title=self.file_stem):
            raise UserError("There is no program to show images here.  Use save_to_img.")

    def save_to_img(self, path: str | os.PathLike) -> Path:
        """Write the drawn image.

        Args:
            path: a file, or a folder for a file named like the source.

        Returns:
            path of the file.

        Raises:
            UserError: the file cannot be written, or is the source.
        """
        suffix = Path(Input(self.source).path).suffix.lower()
        file = self._file(path, IMAGE_ENDINGS, suffix if suffix in IMAGE_ENDINGS else ".png")
        with writing(file):
            write_image(self.draw(), file)
        return file

    def save_to_json(self, path: str | os.PathLike) -> Path:
        """Write a COCO file, see `to_coco_file`; arguments, returns and errors are those of `save_to_img`."""
        file = self._file(path, (".json",), ".json")
        content = self.to_coco_file()
        with writing(file):
            write_text(file, json.dumps(content))
        return file

    def _file(self, path: str | os.PathLike, endings: tuple[str, ...], default: str) -> Path:
        path = os.fspath(path)
        file = Path(path) if is_file_name(path, endings) else Path(path) / f"{self.file_stem}{default}"
        refuse_replacing([self.source], [file])
        make_folder(file.parent)
        return file

    def to_coco_image(self, image_id: int = 1) -> dict[str, Any]:
        """Return the image as an entry of "images" in a COCO file."""
        height, width = self.image.shape[:2]
        frame = {} if self.frame is None else {"frame": self.frame}
        return {"id": image_id, "file_name": self.source, "height": height, "width": width, **frame}

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Return the objects in the form that pycocotools' loadRes takes.

        Each dict has category_id, bbox, score, with tracks track_id and, with masks, segmentation (RLE) and area.
        Category ids are those of
        the dataset that the model was trained on if it is known here, else they count from 1.
        """
        boxes_xywh = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)
        found = [
            {"image_id": image_id, "category_id": self.categories.ids[class_id], "bbox": box, "score": score}
            for class_id, box, score in zip(self.class_ids, boxes_xywh.tolist(), self.scores.tolist())
        ]
        if self.track_ids is not None:
            found = [{**one, "track_id": track_id} for one, track_id in zip(found, self.track_ids.tolist())]
        if not self.instances.has("pred_masks"):
            return found
        rles = self._rles()
        # One call for each mask, because pycocotools 2.0.11 fails on more than 255 masks.
        areas = [int(coco_mask.area(rle)) for rle in rles]
        return [
            {**one, "area": area, "segmentation": {**rle, "counts": rle["counts"].decode("ascii")}}
            for one, rle, area in zip(found, rles, areas)
        ]

    def to_coco_file(self) -> dict[str, Any]:
        """Return the content of a COCO file: this image, the model's categories, and the objects with their scores."""
        annotations = [{"id": i, "iscrowd": 0, **found} for i, found in enumerate(self.to_coco(), start=1)]
        return {
            "images": [self.to_coco_image()],
            "categories": coco_categories(self.categories),
            "annotations": annotations,
        }

    def to_supervision(self) -> "supervision.Detections":
        """Return the objects as `supervision.Detections`, with the class names under data["class_name"].

        Masks in run-length code become supervision's `CompactMask`, others an array.

        Raises:
            UserError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError("to_supervision needs the package supervision.  Run: pip install supervision") from error
        compact = self.instances.has("pred_masks") and isinstance(self.instances.pred_masks, RleMasks)
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self._compact_masks() if compact else self.masks,
            confidence=self.scores,
            class_id=self.class_ids,
            tracker_id=self.track_ids,
            data={"class_name": np.array(self.class_names, dtype=str)},
        )

    def _compact_masks(self) -> "supervision.CompactMask":
        from supervision import CompactMask

        rles = self._rles()
        boxes_xywh = np.array([coco_mask.toBbox(rle) for rle in rles]).reshape(-1, 4)
        # supervision's boxes of masks end with their last pixel.
        boxes = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:] - 1], axis=1)
        return CompactMask.from_coco_rle(rles, boxes, self.image.shape[:2])


def coco_categories(categories: Categories) -> list[dict[str, Any]]:
    """Return the categories as a COCO file has them."""
    return [{"id": category_id, "name": name} for category_id, name in zip(categories.ids, categories.names)]


def _in_notebook() -> bool:
    """Return whether the code runs in a Jupyter kernel, which shows images itself."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and shell.__class__.__name__ == "ZMQInteractiveShell"
