"""Check of one image and its objects; this is the part that runs in parallel."""

import hashlib
import io
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from insta_rtdetr.data.segmentation import UnusableMask, clean_segmentation, rasterise
from insta_rtdetr.image_file import UNREADABLE, reason_unreadable, upright_wh

from .findings import one_line

# A box agrees with its mask if all sides of the mask's box are this close, in pixels, or the two have this IoU.
BOX_TOLERANCE, BOX_IOU = 2.0, 0.8


@dataclass
class ImageTask:
    """Image to check.

    Attributes:
        file: path of the image.
        name: its file_name in the annotation file.
        width, height: its size in pixels, as the annotation file says.
        annotations: its annotations.
    """

    file: str
    name: str
    width: int
    height: int
    annotations: list[dict]


@dataclass
class ImageResult:
    """Result of the check of one image.

    Attributes:
        problems: (kind, example) of each problem.
        digest: hash of the file's bytes; empty if it cannot be read.
        categories, areas: category ids and areas, in mask pixels, of the usable objects, without crowds.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    digest: bytes = b""
    categories: list[Any] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)


def check_image(task: ImageTask) -> ImageResult:
    """Read the whole file, draw each mask, and compare all with the annotations."""
    result = ImageResult()
    _check_file(task, result)
    for annotation in task.annotations:
        origin = f"annotation {annotation.get('id')} of {task.name}"
        if _check_box(annotation, task, origin, result):
            _check_mask(annotation, task, origin, result)
    return result


def _check_file(task: ImageTask, result: ImageResult) -> None:
    try:
        with open(task.file, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        result.problems.append(("image_missing", task.name))
        return
    except OSError as error:
        result.problems.append(("image_unreadable", f"{task.name} ({reason_unreadable(error)})"))
        return
    try:
        (width, height), mode, num_frames = _decode(content)
    except UNREADABLE as error:
        reason = reason_unreadable(error) if content else "it is empty"
        result.problems.append(("image_unreadable", f"{task.name} ({reason})"))
        return
    result.digest = hashlib.blake2b(content, digest_size=16).digest()
    if (width, height) != (task.width, task.height):
        text = f"{task.name} is {width} x {height}, the file says {task.width} x {task.height} (width x height)"
        if (height, width) == (task.width, task.height):
            text += "; images are turned as their EXIF orientation says"
        result.problems.append(("image_size_differs", text))
    if mode.startswith("I"):
        result.problems.append(("image_16_bit", task.name))
    if num_frames > 1:
        result.problems.append(("image_animated", f"{task.name} ({num_frames} frames)"))


def _decode(content: bytes) -> tuple[tuple[int, int], str, int]:
    """Decode every byte of an image, and return its (width, height) when upright, its mode and its frames."""
    with Image.open(io.BytesIO(content)) as image:
        size, mode, num_frames = upright_wh(image), image.mode, getattr(image, "n_frames", 1)
        # A JPEG is read whole but decoded at an eighth of its size, which is several times faster.
        image.draft(None, (image.width // 8, image.height // 8))
        image.load()
    return size, mode, num_frames


def _check_box(annotation: dict, task: ImageTask, origin: str, result: ImageResult) -> bool:
    """Check the box of an object, and return whether training would keep the object."""
    left, top, width, height = annotation["bbox"]
    text = f"{origin}: box {[left, top, width, height]}"
    if not all(map(math.isfinite, (left, top, width, height))):
        result.problems.append(("box_not_finite", text))
        return False
    if not (width > 0 and height > 0):
        result.problems.append(("box_no_area", text))
        return False
    right, bottom = left + width, top + height
    if not (left < task.width and top < task.height and right > 0 and bottom > 0):
        result.problems.append(("box_outside", f"{text}, image {task.width} x {task.height}"))
        return False
    if min(left, top) < -1 or right > task.width + 1 or bottom > task.height + 1:
        result.problems.append(("box_partly_outside", f"{text}, image {task.width} x {task.height}"))
    return True


def _check_mask(annotation: dict, task: ImageTask, origin: str, result: ImageResult) -> None:
    segmentation = annotation.get("segmentation")
    if not segmentation:
        result.problems.append(("mask_missing", origin))
        return
    try:
        clean = clean_segmentation(segmentation, task.height, task.width)
        rle = rasterise(clean, task.height, task.width)
        area = int(mask_util.area(rle))
    except UnusableMask as error:
        result.problems.append(("mask_unusable", f"{origin}, {error}"))
        return
    except Exception as error:  # A segmentation may be anything, so the library may raise anything.
        result.problems.append(("mask_invalid", f"{origin}: {one_line(error)}"))
        return
    if isinstance(clean, list) and _reaches_out(clean, task):
        result.problems.append(("mask_outside", origin))
    if area == 0:
        result.problems.append(("mask_empty", origin))
        return
    _compare(annotation["bbox"], mask_util.toBbox(rle), task, origin, result)
    if not annotation.get("iscrowd", 0):
        result.categories.append(annotation["category_id"])
        result.areas.append(area)


def _reaches_out(polygons: list[list[float]], task: ImageTask) -> bool:
    """Return whether polygons reach out of the image by more than a pixel; annotation tools round to pixels."""
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return min(xs) < -1 or min(ys) < -1 or max(xs) > task.width + 1 or max(ys) > task.height + 1


def _compare(box: list[float], mask_box: np.ndarray, task: ImageTask, origin: str, result: ImageResult) -> None:
    """Compare the box of an annotation with the box of its mask, both (x, y, width, height) in pixels."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], task.width), min(box[1] + box[3], task.height)
    mask_left, mask_top, mask_width, mask_height = mask_box.tolist()
    mask_right, mask_bottom = mask_left + mask_width, mask_top + mask_height
    distances = (left - mask_left, top - mask_top, right - mask_right, bottom - mask_bottom)
    if max(map(abs, distances)) <= BOX_TOLERANCE:
        return
    common_width = max(min(right, mask_right) - max(left, mask_left), 0)
    common = common_width * max(min(bottom, mask_bottom) - max(top, mask_top), 0)
    union = (right - left) * (bottom - top) + mask_width * mask_height - common
    if common < BOX_IOU * union:
        text = f"{origin}: box {[round(side, 1) for side in box]}, mask's box {mask_box.round(1).tolist()}"
        result.problems.append(("box_mask_disagree", text))
