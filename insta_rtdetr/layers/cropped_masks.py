"""Enlargement of maps that count only within boxes: to the network's input, where they are cropped, and to the result.

Shapes: N maps of (h, w) cells, which become (H, W) pixels of the network's input and (H', W') pixels of the result.
"""

import math
from collections.abc import Iterator

from torch import Tensor

from .boxes import cells_inside
from .chunks import CHUNK_PIXELS_GPU
from .mask_resize import BAND_COLUMNS, CHUNK_PIXELS, AxisResize, Region, bands_of, enlarge_region, occupied_regions

# Resizing along the rows and along the columns.
Resize = tuple[AxisResize, AxisResize]


def enlarge_within(
    maps: Tensor, boxes_xyxy: Tensor, to_input: Resize, to_result: Resize, threshold: float
) -> Iterator[tuple[Region, Tensor]]:
    """Enlarge maps to the input, set them to 0 outside their boxes there, and resize them to the result.

    Args:
        maps: (N, h, w), not negative.
        boxes_xyxy: (N, 4), in pixels of the input; a pixel is inside by its index, as `cells_inside` says.
        to_input: resizing from (h, w) to the rows and columns of the input that the image covers.
        to_result: resizing from there to (H', W').
        threshold: no pixel of the result outside the regions exceeds it; not negative.

    Returns:
        the regions, each with the values there, as `enlarge` returns them.
    """
    if maps.device.type == "cpu":
        return _enlarge_one_by_one(maps, boxes_xyxy, to_input, to_result, threshold)
    return _enlarge_whole(maps, boxes_xyxy, to_input, to_result)


def _enlarge_one_by_one(
    maps: Tensor, boxes_xyxy: Tensor, to_input: Resize, to_result: Resize, threshold: float
) -> Iterator[tuple[Region, Tensor]]:
    canvas = maps.new_zeros(1, *(len(resize.matrix) for resize in to_input))
    corners = boxes_xyxy.tolist()
    for which, y, x in occupied_regions(maps, *to_input, threshold):
        left, top, right, bottom = (math.ceil(edge) for edge in corners[which.start])
        y, x = _intersect(y, top, bottom), _intersect(x, left, right)
        if y.start >= y.stop or x.start >= x.stop:
            continue
        for (_, rows, columns), values in enlarge_region(maps, *to_input, (which, y, x), CHUNK_PIXELS, BAND_COLUMNS):
            canvas[:, rows, columns] = values
        (first_row, after_row), (first_column, after_column) = (
            resize.pixels_that_read(pixels.start, pixels.stop)
            for resize, pixels in zip(to_result, (y, x), strict=True)
        )
        region = slice(0, 1), slice(first_row, after_row), slice(first_column, after_column)
        if first_row < after_row and first_column < after_column:
            for (_, *place), values in enlarge_region(canvas, *to_result, region, CHUNK_PIXELS, BAND_COLUMNS):
                yield (which, *place), values
        canvas[:, y, x] = 0


def _intersect(pixels: slice, start: int, stop: int) -> slice:
    return slice(max(pixels.start, start), min(pixels.stop, stop))


def _enlarge_whole(
    maps: Tensor, boxes_xyxy: Tensor, to_input: Resize, to_result: Resize
) -> Iterator[tuple[Region, Tensor]]:
    height, width = (len(resize.matrix) for resize in to_input)
    result_height, result_width = (len(resize.matrix) for resize in to_result)
    at_a_time = max(1, CHUNK_PIXELS_GPU // max(height * width, result_height * result_width))
    for which in bands_of(slice(0, len(maps)), at_a_time):
        inputs = to_input[0].matrix @ maps[which] @ to_input[1].matrix.T
        inputs = inputs * cells_inside(boxes_xyxy[which], height, width)
        results = to_result[0].matrix @ inputs @ to_result[1].matrix.T
        yield (which, slice(0, result_height), slice(0, result_width)), results
