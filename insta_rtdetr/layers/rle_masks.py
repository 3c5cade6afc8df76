"""Masks that are kept in run-length code, because a hundred masks of a large image take gigabytes as pixels.

Shapes: N masks of (H, W) pixels.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import torch
from torch import Tensor

from .mask_resize import Region
from .mask_rle import encode_masks, encode_strip


@dataclass
class RleMasks:
    """Masks in COCO's run-length code, used in Detectron2's `Instances` in place of a bool tensor.

    Attributes:
        rles: the masks, as N dicts of pycocotools.
        size: (H, W).
    """

    rles: list[dict]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: Any) -> "RleMasks | Tensor":
        """Return some of the masks, chosen by what indexes a tensor (N,); for a number the mask itself, bool (H, W)."""
        if isinstance(index, int):
            return torch.from_numpy(coco_mask.decode(self.rles[index])).bool()
        places = torch.arange(len(self))[index].reshape(-1).tolist()
        return RleMasks([self.rles[place] for place in places], self.size)

    def to(self, device: Any) -> "RleMasks":
        """Return the masks themselves, which stay on the CPU; `Instances.to` calls this."""
        return self

    def numpy(self) -> np.ndarray:
        """Return the masks as a bool array (N, H, W)."""
        masks = np.empty((len(self), *self.size), dtype=bool)
        for mask, rle in zip(masks, self.rles):
            mask[:] = coco_mask.decode(rle)
        return masks

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the masks as an array, which Detectron2's Visualizer needs."""
        return self.numpy().astype(dtype or bool, copy=False)


def encode_pieces(pieces: Iterable[tuple[Region, Tensor]], which: Tensor, size: tuple[int, int]) -> RleMasks:
    """Encode what `layers.mask_resize.paste` returns for the same arguments, with only one mask at a time in memory."""
    rles: dict[int, dict] = {}
    for maps, of_maps in itertools.groupby(pieces, key=lambda piece: (piece[0][0].start, piece[0][0].stop)):
        rles.update(zip(range(*maps), _encode(of_maps, size)))
    empty = encode_masks(torch.zeros(1, *size, dtype=torch.bool))[0]
    return RleMasks([rles.get(index, empty) for index in which.tolist()], size)


def _encode(pieces: Iterator[tuple[Region, Tensor]], size: tuple[int, int]) -> list[dict]:
    """Encode the pieces of one map, regions below one another, or one piece that holds several whole masks."""
    (_, _, x), piece = first = next(pieces)
    if piece.shape[1:] == size:
        return encode_masks(piece)
    strip = torch.zeros(size[0], x.stop - x.start, dtype=torch.bool)
    for (_, y, _), piece in itertools.chain([first], pieces):
        strip[y] = piece[0]
    return [encode_strip(strip, x.start, size[1])]
