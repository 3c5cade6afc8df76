"""One geometric transform for a whole training image: a window that is resized and perhaps mirrored.

Zoom-out, crops, flips and the resize only change the numbers of a View; pixels, boxes and masks are transformed once.
Shapes: T objects, (H, W) the output in pixels.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from detectron2.structures.masks import polygons_to_bitmask
from PIL import Image
from pycocotools import mask as mask_util


@dataclass(frozen=True)
class View:
    """Window of an image, with the size it is resized to and the flips.

    Attributes:
        left, top, width, height: the window in pixels of the image; it may reach outside.
        out_width, out_height: the size in pixels that the window is resized to.
        flip_x, flip_y: whether it is mirrored left to right, or upside down, at the end.
        fill_level: grey level outside the image, 0 to 255.
    """

    left: int
    top: int
    width: int
    height: int
    out_width: int
    out_height: int
    flip_x: bool = False
    flip_y: bool = False
    fill_level: int = 0

    @classmethod
    def identity(cls, height: int, width: int) -> "View":
        """Return the view of the whole image as it is."""
        return cls(0, 0, width, height, width, height)

    def apply_points(self, points_xy: np.ndarray) -> np.ndarray:
        """Map points (..., 2), (x, y), from the image to the output, without clipping."""
        window_wh = (self.width, self.height)
        out_wh = np.array((self.out_width, self.out_height))
        points = (points_xy - np.array((self.left, self.top))) * (out_wh / window_wh)
        return np.where((self.flip_x, self.flip_y), out_wh - points, points)

    def apply_boxes(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Map boxes (T, 4) from the image to the output, and clip them to it; boxes outside get no area."""
        corners = self.apply_points(boxes_xyxy.reshape(-1, 2, 2))
        corners = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return np.clip(corners, 0, np.array([self.out_width, self.out_height] * 2))

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize the window with Pillow's antialiased bilinear filter.

        Only the part of the output that the image can reach is computed, so a zoomed-out image needs no large canvas.

        Args:
            image: uint8 (image height, image width, 3).

        Returns:
            uint8 (H, W, 3).
        """
        rows = _Reach.of(self.top, self.height, self.out_height, image.shape[0])
        columns = _Reach.of(self.left, self.width, self.out_width, image.shape[1])
        output = np.full((self.out_height, self.out_width, 3), self.fill_level, dtype=np.uint8)
        if not rows.is_empty and not columns.is_empty:
            pixels = Image.fromarray(np.ascontiguousarray(_cut_out(image, rows, columns, self.fill_level)))
            box = (columns.box_start, rows.box_start, columns.box_stop, rows.box_stop)
            size = (columns.out_stop - columns.out_start, rows.out_stop - rows.out_start)
            resized = pixels.resize(size, Image.Resampling.BILINEAR, box=box)
            output[rows.out_start : rows.out_stop, columns.out_start : columns.out_stop] = np.asarray(resized)
        return self._flipped(output)

    def draw_mask(self, segmentation: Any, output: np.ndarray) -> None:
        """Draw the mask of one object: set its pixels in `output`, a bool (H, W) array of False.

        Args:
            segmentation: COCO polygons (lists of x1, y1, x2, y2, ...) or RLE, in pixels of the image.
            output: the array to draw into.
        """
        if isinstance(segmentation, dict):
            self._draw_rle(segmentation, output)
        else:
            self._draw_polygons(segmentation, output)

    def _draw_polygons(self, polygons: list[list[float]], output: np.ndarray) -> None:
        outlines = [self.apply_points(np.asarray(polygon, dtype=np.float64).reshape(-1, 2)) for polygon in polygons]
        low = np.floor(np.min([outline.min(axis=0) for outline in outlines], axis=0)).astype(int) - 1
        high = np.ceil(np.max([outline.max(axis=0) for outline in outlines], axis=0)).astype(int) + 1
        left, top = np.maximum(low, 0)
        right, bottom = np.minimum(high, (self.out_width, self.out_height))
        if left < right and top < bottom:
            shifted = [(outline - (left, top)).ravel() for outline in outlines]
            output[top:bottom, left:right] = polygons_to_bitmask(shifted, int(bottom - top), int(right - left))

    def _draw_rle(self, rle: dict[str, Any], output: np.ndarray) -> None:
        if isinstance(rle["counts"], list):
            rle = mask_util.frPyObjects(rle, *rle["size"])
        box_left, box_top, box_width, box_height = mask_util.toBbox(rle).astype(int)
        rows, columns = self._nearest_rows, self._nearest_columns
        first_row, last_row = np.searchsorted(rows, (box_top, box_top + box_height))
        first_column, last_column = np.searchsorted(columns, (box_left, box_left + box_width))
        if first_row == last_row or first_column == last_column:
            return
        mask = mask_util.decode(rle)
        chosen = mask[rows[first_row:last_row, None], columns[None, first_column:last_column]]
        self._flipped(output)[first_row:last_row, first_column:last_column] = chosen

    @cached_property
    def _nearest_rows(self) -> np.ndarray:
        """Return the image row (H,) in the middle of each output row, before flipping."""
        return self.top + ((np.arange(self.out_height) + 0.5) * (self.height / self.out_height)).astype(int)

    @cached_property
    def _nearest_columns(self) -> np.ndarray:
        return self.left + ((np.arange(self.out_width) + 0.5) * (self.width / self.out_width)).astype(int)

    def _flipped(self, array: np.ndarray) -> np.ndarray:
        return array[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


@dataclass(frozen=True)
class _Reach:
    """Part of the output that an image can reach through the resize filter, along one axis, and its source pixels.

    Attributes:
        out_start, out_stop: output pixels that the image can reach.
        source_start, source_stop: pixels, in the image's coordinates, that these depend on; may lie outside the image.
        box_start, box_stop: interval that is resized to the output pixels, relative to source_start, in fractional
            pixels.
    """

    out_start: int
    out_stop: int
    source_start: int
    source_stop: int
    box_start: float
    box_stop: float

    @classmethod
    def of(cls, window_start: int, window_length: int, out_length: int, image_length: int) -> "_Reach":
        scale = window_length / out_length
        support = max(scale, 1.0)  # Half the width of Pillow's bilinear filter, in image pixels.
        out_start = max(math.floor((-window_start - support) / scale), 0)
        out_stop = min(math.ceil((image_length - window_start + support) / scale), out_length)
        first, last = out_start * scale, out_stop * scale
        start = max(math.floor(first - support) - 1, 0)
        stop = min(math.ceil(last + support) + 1, window_length)
        return cls(
            out_start, out_stop, window_start + start, window_start + stop,
            first - start, min(last - start, float(stop - start)),
        )  # fmt: skip

    @property
    def is_empty(self) -> bool:
        return self.out_start >= self.out_stop


def _cut_out(image: np.ndarray, rows: _Reach, columns: _Reach, fill_level: int) -> np.ndarray:
    """Return the pixels that a resize needs, filled outside the image; a view of the image if all are inside."""
    top, bottom = max(rows.source_start, 0), min(rows.source_stop, image.shape[0])
    left, right = max(columns.source_start, 0), min(columns.source_stop, image.shape[1])
    inside = image[top : max(top, bottom), left : max(left, right)]
    shape = (rows.source_stop - rows.source_start, columns.source_stop - columns.source_start)
    if inside.shape[:2] == shape:
        return inside
    canvas = np.full((*shape, 3), fill_level, dtype=np.uint8)
    top, left = top - rows.source_start, left - columns.source_start
    canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return canvas
