"""Bilinear enlargement of maps that are then compared with a threshold, made only where they can exceed it.

Shapes: N maps of (h, w) cells, which become (H, W) pixels; M masks of a result.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .boxes import boxes_of_occupied, first_and_after_last
from .chunks import CHUNK_PIXELS_GPU

# Pixels that are made at a time: few enough to stay in a processor's cache, and to read few rows of cells.
CHUNK_PIXELS = 2**16
# Columns of pixels that a processor makes by one product of matrices, because they read few columns of cells.
BAND_COLUMNS = 256
# Results up to this many pixels are left to PyTorch's interpolation if most of them can exceed the threshold.
WHOLE_PIXELS = 2**20

# Which maps, rows of pixels and columns of pixels; all with a start and a stop.
Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class AxisResize:
    """Linear resizing along one axis, as a matrix: each pixel is a mean of the few cells that it reads.

    Attributes:
        matrix: (pixels, cells), weights.
        first_cell: of those that a pixel reads, ascending.
        after_last_cell: of those that a pixel reads, ascending.
        is_plain: whether it is what `F.interpolate` does: once, and with nothing cut off.
    """

    matrix: Tensor
    first_cell: list[int]
    after_last_cell: list[int]
    is_plain: bool

    def pixels_that_read(self, first: int, after_last: int) -> tuple[int, int]:
        """The first pixel that reads any of these cells, and one past the last; equal if there is none."""
        return bisect_right(self.after_last_cell, first), bisect_left(self.first_cell, after_last)

    def cells_of(self, pixels: slice) -> slice:
        """The cells that some pixels read."""
        return slice(self.first_cell[pixels.start], self.after_last_cell[pixels.stop - 1])


@lru_cache(maxsize=64)
def axis_resize(
    cells: int, padded: int, resized: int, pixels: int, twice: bool, device: torch.device, dtype: torch.dtype
) -> AxisResize:
    """From a map to the result along one axis.  Cached.

    Args:
        cells: of the map, which cover the whole network input.
        padded: size of that input.
        resized: size of the image within it, at its start; the rest is padding, which the result leaves out.
        pixels: size of the result.
        twice: resize to the network's input first, and from there to the result.
        device, dtype: of the maps.
    """
    with torch.inference_mode(False), torch.no_grad():
        matrix = torch.eye(cells, dtype=torch.float64)
        if twice:
            matrix = _read_linearly(matrix, cells, padded)[:resized]
            matrix = _read_linearly(matrix, resized, pixels)
        else:
            matrix = _read_linearly(matrix, cells * resized / padded, pixels)
        first, after_last = first_and_after_last(matrix > 0)
        is_plain = not twice and resized == padded
        return AxisResize(matrix.to(device, dtype), first.tolist(), after_last.tolist(), is_plain)


def _read_linearly(rows: Tensor, extent: float, count: int) -> Tensor:
    """Read at the centres of `count` equal parts of the first `extent` rows; beyond the last centre, rows repeat.

    (R, C) -> (count, C).
    """
    place = ((torch.arange(count, dtype=rows.dtype) + 0.5) * (extent / count) - 0.5).clamp(0, len(rows) - 1)
    before = place.long()
    after = (before + 1).clamp(max=len(rows) - 1)
    return torch.lerp(rows[before], rows[after], (place - before)[:, None])


def enlarge(
    maps: Tensor, rows: AxisResize, columns: AxisResize, threshold: float
) -> Iterator[tuple[Region, Tensor]]:
    """Enlarge maps where they can exceed a threshold.

    On a CPU that is one region of each map (or a few below one another, or none); elsewhere many whole maps at a time.

    Args:
        maps: (N, h, w).
        rows: from h to H.
        columns: from w to W.
        threshold: outside the regions no pixel exceeds it.

    Returns:
        The regions, and what is there: (maps, rows, columns).
    """
    on_cpu = maps.device.type == "cpu"
    regions = _occupied_regions(maps, rows, columns, threshold) if on_cpu else _whole_maps(maps, rows, columns)
    height, width = len(rows.matrix), len(columns.matrix)
    is_simple = on_cpu and rows.is_plain and columns.is_plain and height * width <= WHOLE_PIXELS
    for which, y, x in regions:
        if is_simple and 2 * (y.stop - y.start) * (x.stop - x.start) > height * width:
            whole = F.interpolate(maps[which][None], size=(height, width), mode="bilinear")[0]
            yield (which, slice(0, height), slice(0, width)), whole
        elif on_cpu:
            yield from _enlarge_region(maps, rows, columns, (which, y, x), CHUNK_PIXELS, BAND_COLUMNS)
        else:
            yield from _enlarge_region(maps, rows, columns, (which, y, x), height * width, width)


def _enlarge_region(
    maps: Tensor, rows: AxisResize, columns: AxisResize, region: Region, chunk_pixels: int, band_columns: int
) -> Iterator[tuple[Region, Tensor]]:
    which, y, x = region
    cells_y = rows.cells_of(y)
    wide = _widen(maps[which, cells_y], columns, x, band_columns)
    for band in _bands(y, max(1, chunk_pixels // (x.stop - x.start))):
        cells = rows.cells_of(band)
        read = wide[:, cells.start - cells_y.start : cells.stop - cells_y.start]
        yield (which, band, x), rows.matrix[band, cells] @ read


def _widen(maps: Tensor, columns: AxisResize, x: slice, step: int) -> Tensor:
    """(n, rows of cells, w) -> (n, rows of cells, columns of pixels)."""
    bands = [(band, columns.cells_of(band)) for band in _bands(x, step)]
    parts = [maps[..., cells] @ columns.matrix[band, cells].T for band, cells in bands]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _bands(pixels: slice, step: int) -> Iterator[slice]:
    for start in range(pixels.start, pixels.stop, step):
        yield slice(start, min(start + step, pixels.stop))


def _occupied_regions(
    maps: Tensor, rows: AxisResize, columns: AxisResize, threshold: float
) -> Iterator[Region]:
    if not len(maps):
        return
    # No pixel, being a mean of cells, exceeds what none of the cells that it reads exceeds.
    boxes = boxes_of_occupied(maps.amax(1) > threshold, maps.amax(2) > threshold)
    for i, (left, top, right, bottom) in enumerate(boxes.int().tolist()):
        y, x = slice(*rows.pixels_that_read(top, bottom)), slice(*columns.pixels_that_read(left, right))
        if y.start < y.stop and x.start < x.stop:
            yield slice(i, i + 1), y, x


def _whole_maps(maps: Tensor, rows: AxisResize, columns: AxisResize) -> Iterator[Region]:
    height, width = len(rows.matrix), len(columns.matrix)
    for which in _bands(slice(0, len(maps)), max(1, CHUNK_PIXELS_GPU // (height * width))):
        yield which, slice(0, height), slice(0, width)


def exceeds(values: Tensor, threshold: float) -> Tensor:
    """`values > threshold`; on a CPU by numpy, which compares several times as fast as PyTorch 2.11."""
    if values.device.type != "cpu":
        return values > threshold
    return torch.from_numpy(values.detach().numpy() > threshold)


def areas_of(masks: Tensor) -> Tensor:
    """(N, H, W), bool -> (N,), pixels of each mask; by numpy for the same reason."""
    if masks.device.type != "cpu":
        return masks.count_nonzero((1, 2))
    return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()])


def paste(pieces: Iterable[tuple[Region, Tensor]], which: Tensor, size: tuple[int, int]) -> Tensor:
    """Whole masks from the regions that `enlarge` gave.

    Args:
        pieces: regions in the order in which `enlarge` gave them, and the masks there, bool.
        which: (M,), the map that each mask is of.
        size: (H, W).

    Returns:
        (M, H, W), bool.
    """
    if which.device.type != "cpu" and (whole := [piece for _, piece in pieces]):
        return torch.cat(whole)[which]
    # The system gives zeros that cost nothing until something is written there.
    masks = torch.from_numpy(np.zeros((len(which), *size), dtype=bool)).to(which.device)
    places = defaultdict(list)
    for place, index in enumerate(which.tolist()):
        places[index].append(place)
    for (index, y, x), piece in pieces:
        for place in places[index.start]:
            masks[place, y, x] = piece[0]
    return masks
