"""Building COCO's dict from images with labelled shapes, which all readers of other formats end with."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from insta_rtdetr.data.segmentation import UnusableMask, clean_segmentation, rasterise
from insta_rtdetr.errors import DatasetError
from insta_rtdetr.image_file import UNREADABLE, reason_unreadable, upright_wh

# Folder names of a split -> the name it gets.
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
CORNERS_OF_CIRCLE = 72  # The polygon's area is 0.1 % smaller than the circle's.


@dataclass
class LabelledImage:
    """Image file with its objects.

    Attributes:
        file: path of the image.
        objects: (class name, COCO polygons or RLE) of each object, in pixels of the upright image.
    """

    file: Path
    objects: list[tuple[str, Any]] = field(default_factory=list)

    def size(self) -> tuple[int, int]:
        """Return (width, height) of the upright image in pixels.

        Raises:
            DatasetError: the image is missing or unreadable.
        """
        try:
            with Image.open(self.file) as image:
                return upright_wh(image)
        except UNREADABLE as error:
            raise DatasetError(f"{self.file} cannot be read: {reason_unreadable(error)}.") from None


def split_folders(source: Path) -> dict[str, Path]:
    """Return split -> folder.

    The folders are the subfolders train, val, test and the like; without any, the whole source is the training split.
    """
    found = {split: source / name for name, split in SPLIT_NAMES.items() if (source / name).is_dir()}
    return found or {"train": source}


def build_contents(splits: dict[str, list[LabelledImage]]) -> dict[str, dict]:
    """Build COCO's dict of each split.

    Args:
        splits: split -> its images.

    Returns:
        split -> COCO's dict.  File names are absolute; all splits have the same classes, sorted by name.

    Raises:
        DatasetError: an image cannot be read; a segmentation cannot become a mask.
    """
    names = sorted({name for images in splits.values() for image in images for name, _ in image.objects})
    categories = [{"id": index, "name": name} for index, name in enumerate(names, start=1)]
    return {split: _build(images, categories) for split, images in splits.items()}


def _build(images: Iterable[LabelledImage], categories: list[dict]) -> dict:
    id_of = {category["name"]: category["id"] for category in categories}
    content: dict[str, list] = {"images": [], "annotations": [], "categories": categories}
    for image_id, image in enumerate(images, start=1):
        width, height = image.size()
        record = {"id": image_id, "file_name": os.path.abspath(image.file), "width": width, "height": height}
        content["images"].append(record)
        for class_name, segmentation in image.objects:
            annotation = {"id": len(content["annotations"]) + 1, "image_id": image_id, "iscrowd": 0}
            try:
                measured = measure(segmentation, height, width)
            except UnusableMask as error:
                raise DatasetError(f"{image.file} has an object of class {class_name} {error}.") from None
            content["annotations"].append(annotation | {"category_id": id_of[class_name]} | measured)
    return content


def measure(segmentation: Any, height: int, width: int) -> dict:
    """Return the segmentation, as JSON can hold it, with its bbox (x, y, width, height) and area in pixels."""
    segmentation = clean_segmentation(segmentation, height, width)
    rle = rasterise(segmentation, height, width)
    if isinstance(segmentation, list):
        corners = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
        left, top = corners.min(axis=0)
        right, bottom = corners.max(axis=0)
        box = [float(left), float(top), float(right - left), float(bottom - top)]
    else:
        box = mask_util.toBbox(rle).tolist()
        segmentation = {"size": [height, width], "counts": _as_text(rle["counts"])}
    return {"bbox": box, "area": float(mask_util.area(rle)), "segmentation": segmentation}


def _as_text(counts: str | bytes) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    """Turn a box into a polygon."""
    return [left, top, right, top, right, bottom, left, bottom]


def ellipse(center_x: float, center_y: float, radius_x: float, radius_y: float, angle: float = 0.0) -> list[float]:
    """Turn an ellipse into a polygon; the angle, in radians, rotates its x axis towards y."""
    polygon = []
    for index in range(CORNERS_OF_CIRCLE):
        turn = 2 * math.pi * index / CORNERS_OF_CIRCLE
        along, across = radius_x * math.cos(turn), radius_y * math.sin(turn)
        polygon.append(center_x + along * math.cos(angle) - across * math.sin(angle))
        polygon.append(center_y + along * math.sin(angle) + across * math.cos(angle))
    return polygon
