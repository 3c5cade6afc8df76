"""Reading images, drawing the objects found in them, and writing them.  Images are uint8 (H, W, 3), RGB.

Detectron2's visualizers are imported where they draw, because they import Matplotlib, which takes 0.4 s.
"""

import colorsys
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from PIL import Image

from insta_rtdetr.atomic import new_file
from insta_rtdetr.errors import ImageError
from insta_rtdetr.image_file import UNREADABLE, read_rgb, reason_unreadable

if TYPE_CHECKING:
    from detectron2.utils.visualizer import Visualizer

OPACITY = 0.45
GOLDEN_RATIO = 0.618034  # steps of it around the colour circle are never close to each other


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
    """Draw masks, boxes, class names and scores over an image; with tracks, their colours and numbers.

    Args:
        class_names: names of all classes of the model.
        scale: factor by which the drawing is enlarged, so that labels on small images can be read.

    Returns:
        uint8 (H * scale, W * scale, 3), RGB.
    """
    from detectron2.utils.visualizer import Visualizer

    visualizer = Visualizer(image_rgb, Metadata(thing_classes=list(class_names)), scale=scale)
    if instances.has("track_ids"):
        return _draw_tracks(visualizer, instances, class_names)
    return visualizer.draw_instance_predictions(instances).get_image()


def _draw_tracks(visualizer: "Visualizer", instances: Instances, class_names: Sequence[str]) -> np.ndarray:
    """Draw objects in the colours of their tracks, with class names and numbers."""
    track_ids = instances.track_ids.tolist()
    drawn = visualizer.overlay_instances(
        boxes=instances.pred_boxes.tensor.numpy(),
        masks=np.asarray(instances.pred_masks) if instances.has("pred_masks") else None,
        labels=[f"{class_names[c]} {track}" for c, track in zip(instances.pred_classes.tolist(), track_ids)],
        assigned_colors=[tuple(part / 255 for part in spread_color(track)) for track in track_ids],
        alpha=OPACITY,
    )
    return drawn.get_image()


def video_drawer(class_names: Sequence[str]) -> Callable[[np.ndarray, Instances], np.ndarray]:
    """Return a function like `draw` for the frames of one video, which keeps an object's colour from frame to frame."""
    from detectron2.utils.video_visualizer import VideoVisualizer

    visualizer = VideoVisualizer(Metadata(thing_classes=list(class_names)))

    def draw_frame(image_rgb: np.ndarray, instances: Instances) -> np.ndarray:
        if instances.has("pred_masks") and not isinstance(instances.pred_masks, torch.Tensor):
            instances = Instances(instances.image_size, **instances.get_fields())
            instances.pred_masks = torch.from_numpy(np.asarray(instances.pred_masks))
        return visualizer.draw_instance_predictions(image_rgb, instances).get_image()

    return draw_frame


def spread_color(index: int) -> tuple[int, int, int]:
    """Return a bright colour, RGB, that is far from those of the numbers before."""
    red, green, blue = colorsys.hsv_to_rgb((index * GOLDEN_RATIO) % 1, 0.9, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def paint(image_rgb: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], outline: bool = False) -> None:
    """Tint what a mask covers, in place.

    Args:
        image_rgb: uint8 (H, W, 3).
        mask: bool (H, W).
        outline: whether the mask's outermost pixels get the colour itself.
    """
    image_rgb[mask] = (image_rgb[mask] * (1 - OPACITY) + np.array(color) * OPACITY).astype(np.uint8)
    if outline:
        padded = np.pad(mask, 1)
        is_inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        image_rgb[mask & ~is_inner] = color


def write_image(image_rgb: np.ndarray, file: str | os.PathLike) -> None:
    """Write an image in the format of the file's ending, whole or not at all."""
    with new_file(file, several_writers=True, keep_ending=True) as unfinished:
        Image.fromarray(image_rgb).save(unfinished)
