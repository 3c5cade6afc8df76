"""Reader of LabelMe's annotations, which are one JSON file beside each image.

Polygons, rectangles, circles and masks become objects.  Shapes with the same label and group_id become one object of
several parts.  Lines and points have no area and are skipped.
"""

import base64
import io
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from insta_rtdetr.data.segmentation import encode, rasterise
from insta_rtdetr.errors import DatasetError

from .coco_content import LabelledImage, build_contents, ellipse, rectangle, split_folders

WITHOUT_AREA = {"line", "linestrip", "point", "points"}


def read_labelme(source: Path, skipped: Counter) -> dict[str, dict]:
    """Read LabelMe's annotations, and return split -> COCO's dict.

    Args:
        source: a folder of JSON files and images, or one with the subfolders train, val and test.
        skipped: gets the number of shapes that are left out, by reason.

    Raises:
        DatasetError: there is no JSON file; one cannot be read, or its image is missing.
    """
    return build_contents({split: _read_folder(folder, skipped) for split, folder in split_folders(source).items()})


def _read_folder(folder: Path, skipped: Counter) -> list[LabelledImage]:
    files = sorted(folder.rglob("*.json"))
    if not files:
        raise DatasetError(f"{folder} has no JSON file of LabelMe.  Name the folder that holds them.")
    return [_read_file(file, skipped) for file in files]


def _read_file(file: Path, skipped: Counter) -> LabelledImage:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        # LabelMe on Windows writes backslashes.
        image = LabelledImage(file.parent / content["imagePath"].replace("\\", "/"))
        width, height = image.size()
        groups: dict[Any, list[dict]] = defaultdict(list)
        for index, shape in enumerate(content["shapes"]):
            alone = shape.get("group_id") is None
            groups[("shape", index) if alone else (shape["label"], shape["group_id"])].append(shape)
        for shapes in groups.values():
            parts = [part for shape in shapes for part in _parts(shape, height, width, skipped)]
            if parts:
                image.objects.append((str(shapes[0]["label"]), _join(parts, height, width)))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DatasetError(f"{file} is not a file of LabelMe: {type(error).__name__} {error}.") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read: {error}.") from None
    return image


def _parts(shape: dict, height: int, width: int, skipped: Counter) -> list[Any]:
    """Return the polygon or RLE of one shape in a list, which is empty if the shape has no area or is not supported."""
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind in WITHOUT_AREA:
        skipped[f"LabelMe's {kind} has no area"] += 1
        return []
    if kind == "mask":
        return [_mask(shape, height, width)]
    if kind == "rectangle" and len(points) == 2:
        return [rectangle(*points[0], *points[1])]
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        return [ellipse(*points[0], radius, radius)]
    if kind not in ("polygon", "rectangle"):
        skipped[f"LabelMe's {kind} is not supported"] += 1
        return []
    if len(points) < 3:
        skipped["a polygon of fewer than three points"] += 1
        return []
    return [[float(number) for point in points for number in point]]


def _mask(shape: dict, height: int, width: int) -> dict:
    """Return the RLE of a shape that is stored as a mask image within the box of two points, the second included."""
    with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
        pixels = np.asarray(image.convert("L")) > 0
    left, top = (round(number) for number in shape["points"][0])
    mask = np.zeros((height, width), dtype=bool)
    place = mask[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    place[:] = pixels[: place.shape[0], : place.shape[1]]
    return encode(mask)


def _join(parts: list[Any], height: int, width: int) -> Any:
    """Return polygons as they are; if there is a mask among them, join all parts in one RLE."""
    if all(isinstance(part, list) for part in parts):
        return parts
    return mask_util.merge([rasterise(part if isinstance(part, dict) else [part], height, width) for part in parts])
