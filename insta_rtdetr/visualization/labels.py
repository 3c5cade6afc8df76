"""Labels that hide no object.  page/labels.js of the web page does the same.

Shapes: N objects.  Boxes are (N, 4): left, top, right, bottom in pixels.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import Color

MIN_FONT_SIZE = 11  # pixels
SIDE_TO_FONT_SIZE = 60
# A label may cover this share of an object's box, its own or another's.
MAX_HIDDEN = 0.2
# Among more objects than this, a label may be at most this many times as wide as its object.
CROWD, MAX_LABEL_TO_BOX = 12, 1.1
# In a crowd of one class labels say little: there are some only if this share of the objects has place for a whole one.
MIN_LABELLED = 0.5

Box = tuple[float, float, float, float]  # left, top, right, bottom


def draw_labels(
    image_rgb: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[tuple[str, ...]],
    colors: Sequence[Color],
    of_one_class: bool = False,
) -> np.ndarray:
    """Return the image with labels at the objects that have a place for one.

    Args:
        image_rgb: uint8 (H, W, 3).
        boxes: (N, 4), in pixels of this image; the first ones choose their places first.
        texts: for each object its text, and shorter ones for where that is too long.
        colors: for each object the colour of its label.
        of_one_class: whether all objects are of one class.
    """
    size = font_size(image_rgb)
    is_uniform = of_one_class and len(boxes) > CROWD
    texts = [words[:1] for words in texts] if is_uniform else texts
    labels = list(_place_labels(image_rgb.shape[:2], boxes, texts, size))
    if is_uniform and len(labels) < MIN_LABELLED * len(boxes):
        return image_rgb
    image = Image.fromarray(image_rgb)
    canvas = ImageDraw.Draw(image)
    for index, text, place in labels:
        canvas.rounded_rectangle(place, size // 4, fill=colors[index])
        middle = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
        canvas.text(middle, text, text_color(colors[index]), font(size), anchor="mm")
    return np.array(image)


def _place_labels(
    size_hw: tuple[int, int], boxes: np.ndarray, texts: Sequence[tuple[str, ...]], size: int
) -> Iterator[tuple[int, str, Box]]:
    """Yield index, text and place of the labels that have one."""
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1)
    taken = np.zeros((0, 4))
    for index, box in enumerate(boxes):
        most = MAX_LABEL_TO_BOX * (box[2] - box[0]) if len(boxes) > CROWD else size_hw[1]
        for text in texts[index]:
            width, height = font(size).getlength(text) + 0.7 * size, 1.5 * size
            places = _places(box, width, height, size_hw) if width <= most else ()
            free = (
                place
                for place in places
                if not overlap(place, taken).any() and (overlap(place, boxes) <= MAX_HIDDEN * areas).all()
            )
            if place := next(free, None):
                taken = np.append(taken, [place], axis=0)
                yield index, text, place
                break


def _places(box: np.ndarray, width: float, height: float, size_hw: tuple[int, int]) -> Iterator[Box]:
    """Yield places of a label of this size, the best one first: above, in the upper corner, below, beside."""
    left, top, right, bottom = box.tolist()
    middle = (top + bottom - height) / 2
    corners = [(left, top - height - 1), (left, top), (left, bottom + 1), (right - width, top - height - 1)]
    for x, y in [*corners, (right + 1, middle), (left - width - 1, middle)]:
        x, y = min(max(x, 0), max(size_hw[1] - width, 0)), min(max(y, 0), max(size_hw[0] - height, 0))
        yield x, y, x + width, y + height


def overlap(box: Box, boxes: np.ndarray) -> np.ndarray:
    """Return the areas (N,) that a box and each of the boxes have in common."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return np.maximum(sides, 0).prod(axis=1)


def text_color(color: Color) -> str:
    """Return black or white, whichever has the higher contrast on a colour (relative luminance of WCAG 2)."""
    parts = [part / 3294.6 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in color]
    return "black" if np.dot(parts, (0.2126, 0.7152, 0.0722)) > 0.179 else "white"


def font_size(image_rgb: np.ndarray) -> int:
    """Return the size of the labels' font in pixels, which grows with the image."""
    height, width = image_rgb.shape[:2]
    return max(MIN_FONT_SIZE, round((height * width) ** 0.5 / SIDE_TO_FONT_SIZE))


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of all drawings; it comes with Matplotlib, which is imported here because that takes time."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
