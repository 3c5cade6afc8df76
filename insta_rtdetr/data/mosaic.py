"""Mosaic: composing a training image, with its objects, from parts of four images.

Source: YOLOv4, https://arxiv.org/abs/2004.10934; here with masks, and each part scaled as large-scale jitter does.
Shapes: (H, W) the first image, whose size the mosaic has, in pixels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from insta_rtdetr.data.segmentation import encode

from .augmentation import scale_jitter
from .sample import Sample
from .view import View

# Range of the point where the four parts meet, as a fraction of each side.
MIDDLE_RANGE = (0.25, 0.75)
# Each image is scaled so that it fits into its part, and then by a random factor from this range.
SCALE_RANGE = (0.75, 2.0)
# An image with a smaller side, in pixels, stays as it is: its parts would have no pixels.
MIN_SIDE = 8


@dataclasses.dataclass(frozen=True)
class Tile:
    """Rectangle of the mosaic, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, canvas: np.ndarray) -> np.ndarray:
        """Return this part of an (H, W, ...) array, as a numpy view."""
        return canvas[self.top : self.bottom, self.left : self.right]


def mosaic(samples: Sequence[Sample], min_size: float) -> Sample:
    """Compose one sample from four.

    Args:
        samples: four samples; the first one gives the size.
        min_size: objects that the border of a part cuts down to fewer pixels than this are dropped.

    Returns:
        A new sample, whose boxes are clipped to the parts.
    """
    height, width = samples[0].image.shape[:2]
    if min(height, width) < MIN_SIDE:
        return samples[0]
    x, y = (round(side * np.random.uniform(*MIDDLE_RANGE)) for side in (width, height))
    tiles = [Tile(0, 0, x, y), Tile(x, 0, width, y), Tile(0, y, x, height), Tile(x, y, width, height)]
    image = np.zeros((height, width, 3), dtype=np.uint8)
    parts = [_fill(tile, sample, image, min_size) for tile, sample in zip(tiles, samples)]
    return Sample(
        image,
        np.concatenate([part.boxes_xyxy for part in parts]),
        np.concatenate([part.classes for part in parts]),
        [segmentation for part in parts for segmentation in part.segmentations],
    )


def _fill(tile: Tile, sample: Sample, canvas: np.ndarray, min_size: float) -> Sample:
    """Draw a sample into its part of the canvas, and return its objects in pixels of the canvas."""
    out_hw = (tile.bottom - tile.top, tile.right - tile.left)
    view = scale_jitter(View.identity(*sample.image.shape[:2]), SCALE_RANGE, out_hw)
    view = dataclasses.replace(view, out_height=out_hw[0], out_width=out_hw[1])
    tile.of(canvas)[:] = view.apply_image(sample.image)
    boxes = view.apply_boxes(sample.boxes_xyxy)
    is_inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    segmentations = [
        _move(segmentation, view, tile, canvas.shape[:2], min_size) if inside else None
        for segmentation, inside in zip(sample.segmentations, is_inside)
    ]
    kept = np.array([segmentation is not None for segmentation in segmentations], dtype=bool)
    boxes = boxes + np.array([tile.left, tile.top] * 2)
    return dataclasses.replace(sample, boxes_xyxy=boxes, segmentations=segmentations).select(kept)


def _move(segmentation: Any, view: View, tile: Tile, canvas_hw: tuple[int, int], min_size: float) -> Any:
    """Return a mask in pixels of the canvas, or None if fewer than `min_size` pixels are left.

    Polygons that lie within the part stay polygons; other masks become RLE.
    """
    if isinstance(segmentation, list):
        outlines = [view.apply_points(np.asarray(polygon, dtype=np.float64).reshape(-1, 2)) for polygon in segmentation]
        points = np.concatenate(outlines)
        if (points >= 0).all() and (points <= (view.out_width, view.out_height)).all():
            return [(outline + (tile.left, tile.top)).ravel().tolist() for outline in outlines]
    mask = np.zeros(canvas_hw, dtype=bool)
    view.draw_mask(segmentation, tile.of(mask))
    return encode(mask) if np.count_nonzero(mask) >= max(min_size, 1) else None
