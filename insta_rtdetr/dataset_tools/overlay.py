"""Drawing images with their objects for a report."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from insta_rtdetr.data.segmentation import clean_segmentation, rasterise
from insta_rtdetr.image_file import UNREADABLE, read_rgb
from insta_rtdetr.visualization import MaskCrop, assign_colors, draw_labels, paint

from .check_image import ImageTask

LONGEST_SIDE = 360  # pixels


def draw_objects(task: ImageTask, class_names: dict[Any, str]) -> Image.Image:
    """Draw an image with its masks and class names, at most LONGEST_SIDE pixels wide and high.

    Objects that cannot be drawn are left out.

    Raises:
        OSError, ValueError, ...: the image cannot be read; see UNREADABLE.
    """
    image = Image.fromarray(read_rgb(task.file))
    width, height = image.size
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    scale = image.width / width
    drawable = []
    for annotation in task.annotations:
        try:
            clean = clean_segmentation(annotation.get("segmentation"), height, width)
            mask = mask_util.decode(rasterise(clean, height, width)).astype(bool)
            left, top, *size = annotation["bbox"]
            drawable.append(((left, top, left + size[0], top + size[1]), mask, annotation["category_id"]))
        except Exception:  # The check reports what is wrong.
            continue
    return _draw(image, drawable, class_names, scale)


def _draw(image: Image.Image, drawable: list[tuple], class_names: dict[Any, str], scale: float) -> Image.Image:
    """Draw objects, each (box, mask, category), over an image that was resized by `scale`."""
    pixels = np.array(image)
    boxes = np.array([box for box, _, _ in drawable], dtype=float).reshape(-1, 4)
    order = list(class_names)
    class_ids = np.array([order.index(category) if category in class_names else -1 for *_, category in drawable])
    colors = assign_colors(boxes, class_ids, len(order) == 1)
    for (_, mask, _), color in zip(drawable, colors):
        paint(pixels, MaskCrop.of(mask), color, scale)
    if len(class_names) > 1:
        texts = [(class_names.get(category, "?"),) for *_, category in drawable]
        pixels = draw_labels(pixels, boxes * scale, texts, colors)
    return Image.fromarray(pixels)


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
