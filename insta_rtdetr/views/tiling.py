"""Tiling: a large image is cut into overlapping tiles, so that small objects reach the network at their size.

Shapes: (H, W) the size of the image, (h, w) that of a tile, both in pixels.
"""

import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from detectron2.structures import Instances
from tqdm import tqdm

from insta_rtdetr.errors import UserError

from .seams import TileMerger

MAX_OVERLAP = 0.9

Find = Callable[[list[np.ndarray]], list[Instances]]


@dataclass(frozen=True)
class Tile:
    """Tile of an image, in pixels: rows from `top` to before `bottom`, columns from `left` to before `right`."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class Tiling:
    """Size of the tiles that an image is cut into.

    Attributes:
        size: side of a tile in pixels.
        overlap: least overlap of neighbouring tiles, as a fraction of a tile's side.

    Raises:
        UserError: the size is no positive whole number, or the overlap is not between 0 and MAX_OVERLAP.
    """

    size: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if not (isinstance(self.size, numbers.Integral) and self.size >= 1):
            raise UserError(f"tile is {self.size}, wanted the side of a tile in pixels, at least 1.")
        if not (isinstance(self.overlap, numbers.Real) and 0 <= self.overlap <= MAX_OVERLAP):
            raise UserError(f"overlap is {self.overlap}, wanted a fraction of the tile's side, 0 to {MAX_OVERLAP}.")

    def __str__(self) -> str:
        return f"tiles of {self.size} pixels that overlap by at least {self.overlap:.0%}"

    def tiles(self, size_hw: tuple[int, int]) -> list[Tile]:
        """Return the tiles of an image of this size, row by row; they have one size and lie evenly over the image."""
        height, width = (min(self.size, side) for side in size_hw)
        tops, lefts = (self._starts(side) for side in size_hw)
        return [Tile(top, left, top + height, left + width) for top in tops for left in lefts]

    def _starts(self, side: int) -> list[int]:
        beyond = max(side - self.size, 0)
        step = max(int(self.size * (1 - self.overlap)), 1)
        return np.linspace(0, beyond, -(-beyond // step) + 1).round().astype(int).tolist()


def find_in_tiles(find: Find, image: np.ndarray, tiling: Tiling, batch_size: int = 1) -> Instances:
    """Find objects in the tiles of an image, and merge what is found.

    A progress bar is shown on a terminal.  Only the tiles of one batch are in memory as pixels.

    Args:
        find: finds the objects in images, uint8 (h, w, 3), RGB; see `Predictor.find`.
        image: uint8 (H, W, 3), RGB; any array that gives a crop as `image[top:bottom, left:right]`.
        tiling: size of the tiles.
        batch_size: number of tiles that `find` gets at a time.

    Returns:
        the objects in the image, the highest score first, with `RleMasks` as their masks.
    """
    size_hw = image.shape[:2]
    tiles = tiling.tiles(size_hw)
    merger = TileMerger(size_hw)
    with tqdm(total=len(tiles), unit="tile", leave=False, disable=None if len(tiles) > 1 else True) as bar:
        for batch in _batches(tiles, batch_size):
            crops = [np.ascontiguousarray(image[tile.top : tile.bottom, tile.left : tile.right]) for tile in batch]
            for tile, found in zip(batch, find(crops)):
                merger.add((tile.top, tile.left), found)
            bar.update(len(batch))
    return merger.merged()


def _batches(tiles: list[Tile], batch_size: int) -> Iterator[list[Tile]]:
    for start in range(0, len(tiles), batch_size):
        yield tiles[start : start + batch_size]
