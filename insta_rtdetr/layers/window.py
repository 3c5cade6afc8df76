"""Rectangles of a map's cells, for computing a part of a map.

Shapes: N regions, P points, (h, w) the map.  Points are (x, y) in [0, 1] of the whole map.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A rectangle of cells.

    Attributes:
        size: (h, w) of the whole map.
        rows, columns: the cells of the rectangle.
    """

    size: tuple[int, int]
    rows: slice
    columns: slice

    @classmethod
    def whole(cls, size: tuple[int, int]) -> "Window":
        """Return the window of all cells of a map of size (h, w)."""
        return cls(size, slice(0, size[0]), slice(0, size[1]))

    @property
    def is_whole(self) -> bool:
        """Return whether the rectangle has all cells of the map."""
        return self == Window.whole(self.size)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns of the rectangle."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def crop(self, maps: Tensor) -> Tensor:
        """Return the rectangle of maps as a view: (..., h, w) -> (..., rows, columns)."""
        return maps[..., self.rows, self.columns]

    def localise(self, points: Tensor) -> Tensor:
        """Convert points (..., 2) from [0, 1] of the whole map to [0, 1] of the rectangle."""
        if self.is_whole:
            return points
        like = {"dtype": points.dtype, "device": points.device}
        whole, shape = (torch.tensor(sides[::-1], **like) for sides in (self.size, self.shape))
        return (points * whole - torch.tensor([self.columns.start, self.rows.start], **like)) / shape


def windows_around(regions_xyxy: Tensor, size: tuple[int, int]) -> list[Window]:
    """Return the window of the cells that bilinear samples within each region read.

    Args:
        regions_xyxy: (N, 4), in [0, 1] of the map.
        size: (h, w).
    """
    sides = regions_xyxy.new_tensor(size[::-1])
    # The centre of cell i is at i + 0.5; a sample reads the cell before it and the one after it.
    first = (regions_xyxy[:, :2] * sides - 0.5).floor().clamp(min=0)
    end = (regions_xyxy[:, 2:] * sides - 0.5).floor() + 2
    end = torch.minimum(end, sides)
    bounds = torch.cat([first, end], dim=1).int().tolist()
    return [Window(size, slice(y0, y1), slice(x0, x1)) for x0, y0, x1, y1 in bounds]
