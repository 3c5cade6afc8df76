"""Bilinear enlargement of maps that are then compared with a threshold.

The result is computed only where it can exceed the threshold.

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

# Number of pixels that are computed at a time: few enough to stay in a CPU's cache, and to read few rows of cells.
CHUNK_PIXELS = 2**16
# Number of columns of pixels that one matrix product computes on a CPU: few enough to read few columns of cells.
BAND_COLUMNS = 256
# Results with at most this many pixels are left to PyTorch's interpolation if most of the pixels can exceed the
# threshold.
WHOLE_PIXELS = 2**20

# Slices of maps, rows of pixels and columns of pixels, all with a start and a stop.
Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class AxisResize:
    """Linear resizing along one axis as a matrix, in which each pixel is a mean of the few cells that it reads.

    Attributes:
        matrix: (pixels, cells), the weights.
        first_cell: for each pixel, the first cell that it reads; ascending.
        after_last_cell: for each pixel, one past the last cell that it reads; ascending.
        is_plain: whether `F.interpolate` computes the same, because the map is resized once and nothing is cut off.
    """

    matrix: Tensor
    first_cell: list[int]
    after_last_cell: list[int]
    is_plain: bool

    def pixels_that_read(self, first: int, after_last: int) -> tuple[int, int]:
        """Return the first pixel that reads any of these cells, and one past the last; equal if there is none."""
        return bisect_right(self.after_last_cell, first), bisect_left(self.first_cell, after_last)

    def cells_of(self, pixels: slice) -> slice:
        """Return the cells that a slice of pixels reads."""
        return slice(self.first_cell[pixels.start], self.after_last_cell[pixels.stop - 1])


@lru_cache(maxsize=64)
def axis_resize(
    cells: int, padded: int, resized: int, pixels: int, twice: bool, device: torch.device, dtype: torch.dtype
) -> AxisResize:
    """Build the resizing from a map to the result along one axis.  The result is cached.

    Args:
        cells: number of cells of the map, which covers the whole network input.
        padded: size of that input in pixels.
        resized: size in pixels of the image, which lies at the start of the input; the result leaves out the padding
            after it.
        pixels: size of the result in pixels.
        twice: whether the map is resized to the network's input first, and from there to the result.
        device, dtype: those of the maps.
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
    """Read rows (R, C) at the centres of `count` equal parts of the first `extent` rows, which gives (count, C).

    Values between two rows are interpolated; before the first and after the last row's centre, that row is repeated.
    """
    place = ((torch.arange(count, dtype=rows.dtype) + 0.5) * (extent / count) - 0.5).clamp(0, len(rows) - 1)
    before = place.long()
    after = (before + 1).clamp(max=len(rows) - 1)
    return torch.lerp(rows[before], rows[after], (place - before)[:, None])


def enlarge(
    maps: Tensor, rows: AxisResize, columns: AxisResize, threshold: float
) -> Iterator[tuple[Region, Tensor]]:
    """Enlarge maps where they can exceed a threshold.

    On a CPU, each map gives one region, a few regions below one another, or none.  On other devices, many whole maps
    are enlarged at a time.

    Args:
        maps: (N, h, w).
        rows: resizing from h to H.
        columns: resizing from w to W.
        threshold: no pixel outside the regions exceeds it.

    Returns:
        the regions, each with the values there: (maps, rows, columns).
    """
    on_cpu = maps.device.type == "cpu"
    regions = occupied_regions(maps, rows, columns, threshold) if on_cpu else _whole_maps(maps, rows, columns)
    height, width = len(rows.matrix), len(columns.matrix)
    is_simple = on_cpu and rows.is_plain and columns.is_plain and height * width <= WHOLE_PIXELS
    for which, y, x in regions:
        if is_simple and 2 * (y.stop - y.start) * (x.stop - x.start) > height * width:
            whole = F.interpolate(maps[which][None], size=(height, width), mode="bilinear")[0]
            yield (which, slice(0, height), slice(0, width)), whole
        elif on_cpu:
            yield from enlarge_region(maps, rows, columns, (which, y, x), CHUNK_PIXELS, BAND_COLUMNS)
        else:
            yield from enlarge_region(maps, rows, columns, (which, y, x), height * width, width)


def enlarge_region(
    maps: Tensor, rows: AxisResize, columns: AxisResize, region: Region, chunk_pixels: int, band_columns: int
) -> Iterator[tuple[Region, Tensor]]:
    """Enlarge a region of maps, in bands of rows of at most `chunk_pixels` pixels; see `enlarge`."""
    which, y, x = region
    cells_y = rows.cells_of(y)
    wide = _widen(maps[which, cells_y], columns, x, band_columns)
    for band in bands_of(y, max(1, chunk_pixels // (x.stop - x.start))):
        cells = rows.cells_of(band)
        read = wide[:, cells.start - cells_y.start : cells.stop - cells_y.start]
        yield (which, band, x), rows.matrix[band, cells] @ read


def _widen(maps: Tensor, columns: AxisResize, x: slice, step: int) -> Tensor:
    """Resize (n, rows of cells, w) along the columns, to (n, rows of cells, columns of pixels)."""
    bands = [(band, columns.cells_of(band)) for band in bands_of(x, step)]
    parts = [maps[..., cells] @ columns.matrix[band, cells].T for band, cells in bands]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def bands_of(pixels: slice, step: int) -> Iterator[slice]:
    """Yield consecutive slices of at most `step` pixels."""
    for start in range(pixels.start, pixels.stop, step):
        yield slice(start, min(start + step, pixels.stop))


def occupied_regions(
    maps: Tensor, rows: AxisResize, columns: AxisResize, threshold: float
) -> Iterator[Region]:
    """Yield the region of each map outside of which no pixel can exceed a threshold, unless it is empty."""
    if not len(maps):
        return
    # A pixel is a mean of the cells that it reads, so it cannot exceed a threshold that none of them exceeds.
    boxes = boxes_of_occupied(maps.amax(1) > threshold, maps.amax(2) > threshold)
    for i, (left, top, right, bottom) in enumerate(boxes.int().tolist()):
        y, x = slice(*rows.pixels_that_read(top, bottom)), slice(*columns.pixels_that_read(left, right))
        if y.start < y.stop and x.start < x.stop:
            yield slice(i, i + 1), y, x


def _whole_maps(maps: Tensor, rows: AxisResize, columns: AxisResize) -> Iterator[Region]:
    height, width = len(rows.matrix), len(columns.matrix)
    for which in bands_of(slice(0, len(maps)), max(1, CHUNK_PIXELS_GPU // (height * width))):
        yield which, slice(0, height), slice(0, width)


def exceeds(values: Tensor, threshold: float) -> Tensor:
    """Return `values > threshold`, on a CPU by numpy, which compares several times as fast as PyTorch 2.11."""
    if values.device.type != "cpu":
        return values > threshold
    return torch.from_numpy(values.detach().numpy() > threshold)


def areas_of(masks: Tensor) -> Tensor:
    """Count the pixels of each mask, (N, H, W) bool -> (N,), on a CPU by numpy, which is faster than PyTorch 2.11."""
    if masks.device.type != "cpu":
        return masks.count_nonzero((1, 2))
    return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()])


def paste(pieces: Iterable[tuple[Region, Tensor]], which: Tensor, size: tuple[int, int]) -> Tensor:
    """Assemble whole masks from the regions that `enlarge` returns.

    Args:
        pieces: the regions in the order of `enlarge`, each with its part of the masks, bool.
        which: (M,), index of the map of each mask.
        size: (H, W).

    Returns:
        (M, H, W), bool.
    """
    if which.device.type != "cpu" and (whole := [piece for _, piece in pieces]):
        return torch.cat(whole)[which]
    # The operating system provides zeroed memory pages lazily, so parts that are never written cost nothing.
    masks = torch.from_numpy(np.zeros((len(which), *size), dtype=bool)).to(which.device)
    places = defaultdict(list)
    for place, index in enumerate(which.tolist()):
        places[index].append(place)
    for (index, y, x), piece in pieces:
        for place in places[index.start]:
            masks[place, y, x] = piece[0]
    return masks
