"""Drawing objects over their image.  Shapes: N objects, (H, W) the image's size in pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .colors import Color, ColorMemory, assign_colors, spread_color
from .labels import draw_labels
from .masks import MaskCrop, line_width, paint


@dataclass(frozen=True)
class Objects:
    """Objects of an image, the highest score first.

    Attributes:
        boxes: (N, 4): left, top, right, bottom in pixels.
        class_ids: (N,), int.
        scores: (N,), from 0 to 1.
        class_names: names of all classes of the model.
        masks: the N masks; None if the model finds boxes only.
        track_ids: (N,), int; None without tracks.
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    class_names: Sequence[str]
    masks: Iterable[MaskCrop] | None = None
    track_ids: np.ndarray | None = None


def draw_objects(
    image_rgb: np.ndarray, objects: Objects, scale: float = 1.0, memory: ColorMemory | None = None
) -> np.ndarray:
    """Draw the masks over an image, or boxes where there are no masks, and labels where they hide no object.

    The best object is drawn last, over the others.  Colours show tracks where there are any, else classes, or objects
    if all are of one class; see `assign_colors`.

    Args:
        image_rgb: uint8 (H, W, 3).
        objects: what is drawn.
        scale: factor by which the drawing is enlarged, so that labels on small images can be read.
        memory: the colours of a video's frames before.

    Returns:
        uint8 (H * scale, W * scale, 3), RGB.
    """
    height, width = image_rgb.shape[:2]
    size = round(width * scale), round(height * scale)
    drawn = cv2.resize(image_rgb, size, interpolation=cv2.INTER_CUBIC) if scale != 1 else image_rgb.copy()
    of_one_class = len(set(objects.class_ids.tolist())) == 1
    colors = _colors(objects, of_one_class, memory)
    if objects.masks is None:
        for box, color in zip(objects.boxes[::-1], colors[::-1]):
            left, top, right, bottom = np.round(box * scale).astype(int).tolist()
            cv2.rectangle(drawn, (left, top), (right, bottom), color, line_width(drawn))
    else:
        for crop, color in reversed(list(zip(objects.masks, colors))):
            paint(drawn, crop, color, scale)
    return draw_labels(
        drawn, objects.boxes * scale, _texts(objects), colors, of_one_class and objects.track_ids is None
    )


def _colors(objects: Objects, of_one_class: bool, memory: ColorMemory | None) -> list[Color]:
    if objects.track_ids is not None:
        return [spread_color(track) for track in objects.track_ids.tolist()]
    if memory is not None:  # The next frame may have other classes.
        return memory.assign(objects.boxes, objects.class_ids, len(objects.class_names) == 1)
    return assign_colors(objects.boxes, objects.class_ids, of_one_class)


def _texts(objects: Objects) -> list[tuple[str, str]]:
    """Return for each object its class with the score or the number of its track, and that alone."""
    if objects.track_ids is not None:
        short = [str(track) for track in objects.track_ids.tolist()]
    else:
        short = [f"{int(score * 100)}%" for score in objects.scores.tolist()]
    return [(f"{objects.class_names[c]} {text}", text) for c, text in zip(objects.class_ids.tolist(), short)]
