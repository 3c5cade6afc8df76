"""Drawing images with their objects for a report."""

import base64
import io
from typing import Any

from PIL import Image, ImageDraw
from pycocotools import mask as mask_util

from insta_rtdetr.data.segmentation import clean_segmentation, rasterise
from insta_rtdetr.image_file import UNREADABLE, read_rgb
from insta_rtdetr.visualization import paint, spread_color

from .check_image import ImageTask

LONGEST_SIDE = 360  # pixels


def draw_objects(task: ImageTask, class_names: dict[Any, str]) -> Image.Image:
    """Draw an image with its masks, boxes and class names, at most LONGEST_SIDE pixels wide and high.

    Objects that cannot be drawn are left out.

    Raises:
        OSError, ValueError, ...: the image cannot be read; see UNREADABLE.
    """
    pixels = read_rgb(task.file).copy()
    outlines = []
    for index, annotation in enumerate(task.annotations):
        try:
            clean = clean_segmentation(annotation.get("segmentation"), *pixels.shape[:2])
            mask = mask_util.decode(rasterise(clean, *pixels.shape[:2])).astype(bool)
        except Exception:  # The check reports what is wrong.
            continue
        color = spread_color(index)
        paint(pixels, mask, color)
        outlines.append((annotation["bbox"], color, class_names.get(annotation["category_id"], "?")))
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    _draw_outlines(image, outlines, image.width / pixels.shape[1], with_names=len(class_names) > 1)
    return image


def _draw_outlines(image: Image.Image, outlines: list[tuple], scale: float, with_names: bool) -> None:
    canvas = ImageDraw.Draw(image)
    for (left, top, width, height), color, name in outlines:
        corners = [left * scale, top * scale, (left + width) * scale, (top + height) * scale]
        canvas.rectangle(corners, outline=color)
        if with_names:
            place = (corners[0] + 2, max(corners[1], 0))
            canvas.text(place, name, fill="white", stroke_width=1, stroke_fill="black")


def as_data_url(image: Image.Image) -> str:
    """Encode an image as a data URL, so that an HTML page can hold it."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def sample_images(tasks: list[ImageTask], class_names: dict[Any, str], count: int) -> list[tuple[str, str]]:
    """Draw some images of a split for a report.

    The images are spread evenly over the split, and those with objects are preferred; unreadable ones are left out.

    Returns:
        (name, data URL) of each image.
    """
    wanted = [task for task in tasks if task.annotations] or tasks
    chosen = wanted[:: max(1, len(wanted) // count)][:count]
    images = []
    for task in chosen:
        try:
            images.append((task.name, as_data_url(draw_objects(task, class_names))))
        except UNREADABLE:
            continue
    return images
