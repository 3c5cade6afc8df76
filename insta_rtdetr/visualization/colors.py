"""Colours of objects, such that neighbours can be told apart.  page/colors.js of the web page does the same.

Objects of one class have the colours of PALETTE.  Where there are several classes, an object has a shade of its class's
hue.  Shapes: N objects; boxes are (N, 4): left, top, right, bottom in pixels.
"""

import colorsys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou

Color = tuple[int, int, int]  # red, green, blue from 0 to 255

PALETTE: tuple[Color, ...] = (
    (56, 150, 255), (255, 138, 30), (84, 214, 70), (235, 80, 220), (255, 221, 51), (40, 214, 205), (255, 84, 84),
    (160, 118, 255),
)  # fmt: skip
GOLDEN_ANGLE = 137.508  # degrees; steps of it around the colour circle are never close to each other
FIRST_HUE = 210
# Shades of a hue: degrees away from it, and lightness in percent.
SHADES = ((0, 54), (16, 64), (-16, 44), (-14, 68), (14, 46), (0, 72))
# Objects are neighbours if their boxes, enlarged on each side by this share of their mean side, overlap.
NEIGHBOUR_MARGIN = 0.25
# A box of the last frames with this IoU shows the same object, if it was seen at most so many frames ago.
SAME_OBJECT_IOU, FRAMES_TO_REMEMBER = 0.5, 8


def spread_color(index: int, shade: int = 0) -> Color:
    """Return a bright colour that is far from those of the numbers before; shades of one number have similar hues."""
    turn, lightness = SHADES[shade]
    hue = (FIRST_HUE + index * GOLDEN_ANGLE + turn) % 360
    red, green, blue = colorsys.hls_to_rgb(hue / 360, lightness / 100, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def assign_colors(
    boxes: np.ndarray, class_ids: np.ndarray, of_one_class: bool, kept: Sequence[Color | None] | None = None
) -> list[Color]:
    """Return a colour for each object: greedily the one that the fewest neighbours have, then the fewest objects.

    Args:
        boxes: (N, 4).
        class_ids: (N,), class indices.
        of_one_class: whether all objects are of one class, so that colours need not show it.
        kept: colours that objects already have; None for those that are to get one.
    """
    colors: list[Color | None] = list(kept) if kept else [None] * len(boxes)
    margins = (boxes[:, 2:] - boxes[:, :2]).sum(axis=1) / 2 * NEIGHBOUR_MARGIN
    low, high = boxes[:, :2] - margins[:, None], boxes[:, 2:] + margins[:, None]
    used = Counter(filter(None, colors))
    for index, class_id in enumerate(class_ids.tolist()):
        if colors[index] is None:
            is_near = ((low < high[index]) & (high > low[index])).all(axis=1)
            near = [colors[other] for other in np.flatnonzero(is_near)]
            choice = PALETTE if of_one_class else [spread_color(class_id, shade) for shade in range(len(SHADES))]
            colors[index] = min(choice, key=lambda color: (near.count(color), used[color]))
            used[colors[index]] += 1
    return colors


class ColorMemory:
    """Colours of the objects of a video without tracks, which an object keeps from frame to frame."""

    def __init__(self) -> None:
        """Begin a video."""
        self._boxes, self._ages = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
        self._class_ids = torch.zeros(0, dtype=torch.int64)
        self._colors: list[Color] = []

    def assign(self, boxes: np.ndarray, class_ids: np.ndarray, of_one_class: bool) -> list[Color]:
        """Return a colour for each object of the next frame; see `assign_colors` for the arguments."""
        found, classes = torch.as_tensor(boxes, dtype=torch.float32), torch.as_tensor(class_ids)
        matches = self._match(found, classes)
        kept = [self._colors[match] if match >= 0 else None for match in matches]
        colors = assign_colors(boxes, class_ids, of_one_class, kept)
        self._remember(found, classes, colors, set(matches))
        return colors

    def _match(self, boxes: torch.Tensor, class_ids: torch.Tensor) -> list[int]:
        """Return for each object the index of what it was in an earlier frame, each once, or -1."""
        ious = pairwise_iou(Boxes(boxes), Boxes(self._boxes)) * (class_ids[:, None] == self._class_ids)
        matches = [-1] * len(boxes)
        for _ in range(min(ious.shape)):
            row, column = divmod(int(ious.argmax()), ious.shape[1])
            if ious[row, column] < SAME_OBJECT_IOU:
                break
            matches[row] = column
            ious[row], ious[:, column] = -1, -1
        return matches

    def _remember(self, boxes: torch.Tensor, class_ids: torch.Tensor, colors: list[Color], matched: set[int]) -> None:
        unseen = [i for i, age in enumerate(self._ages.tolist()) if i not in matched and age < FRAMES_TO_REMEMBER]
        self._boxes = torch.cat([boxes, self._boxes[unseen]])
        self._class_ids = torch.cat([class_ids, self._class_ids[unseen]])
        self._ages = torch.cat([torch.zeros(len(boxes), dtype=torch.int64), self._ages[unseen] + 1])
        self._colors = [*colors, *(self._colors[i] for i in unseen)]
