"""Reading images, drawing the objects found in them, and writing them.  Images are uint8 (H, W, 3), RGB."""

import os
from collections.abc import Callable, Sequence

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import Visualizer
from PIL import Image

from insta_rtdetr.atomic import new_file
from insta_rtdetr.errors import ImageError
from insta_rtdetr.image_file import UNREADABLE, read_rgb, reason_unreadable


def read_image(file: str | os.PathLike) -> np.ndarray:
    """Read an image file upright, as its EXIF data says, which is also how training reads it.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return read_rgb(file)
    except UNREADABLE as error:
        raise ImageError(f"{file} cannot be read: {reason_unreadable(error)}") from error


def draw(image_rgb: np.ndarray, instances: Instances, class_names: Sequence[str], scale: float = 1.0) -> np.ndarray:
    """Draw masks, boxes, class names and scores over an image.

    Args:
        class_names: names of all classes of the model.
        scale: factor by which the drawing is enlarged, so that labels on small images can be read.

    Returns:
        uint8 (H * scale, W * scale, 3), RGB.
    """
    visualizer = Visualizer(image_rgb, Metadata(thing_classes=list(class_names)), scale=scale)
    return visualizer.draw_instance_predictions(instances).get_image()


def video_drawer(class_names: Sequence[str]) -> Callable[[np.ndarray, Instances], np.ndarray]:
    """Return a function like `draw` for the frames of one video, which keeps an object's colour from frame to frame."""
    visualizer = VideoVisualizer(Metadata(thing_classes=list(class_names)))
    return lambda image_rgb, instances: visualizer.draw_instance_predictions(image_rgb, instances).get_image()


def write_image(image_rgb: np.ndarray, file: str | os.PathLike) -> None:
    """Write an image in the format of the file's ending, whole or not at all."""
    with new_file(file, several_writers=True, keep_ending=True) as unfinished:
        Image.fromarray(image_rgb).save(unfinished)
