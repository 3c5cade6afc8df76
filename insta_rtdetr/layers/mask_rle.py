"""Encoding masks in COCO's run-length code, with the same bytes as `pycocotools.mask.encode`, but faster; and decoding.

pycocotools transposes a mask and walks over its bytes.  Here vector instructions find the places where the next pixel
of a column differs, in the mask as it lies in memory, and only those few places are sorted into column order.
pycocotools also decodes a mask only as a whole, which for one object of a large image takes far more memory and time
than the object.

Shapes: N masks, (H, W) their size in pixels.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pycocotools.mask as coco_mask
import torch
import torch.nn.functional as F
from torch import Tensor

# Number of pixels compared at a time on a GPU: torch.nonzero takes fewer than 2**31.
CHUNK_PIXELS_GPU = 2**27


def encode_masks(masks: Tensor) -> list[dict]:
    """Encode masks in COCO's run-length code.

    Args:
        masks: (N, H, W), bool, on any device.

    Returns:
        N dicts {"size": [H, W], "counts": bytes}, equal to pycocotools'.

    Raises:
        ValueError: the masks are not bool, or not (N, H, W) with at least one pixel.
    """
    if masks.dtype != torch.bool or masks.dim() != 3 or 0 in masks.shape[1:]:
        raise ValueError(f"masks must be bool (N, H, W), got {masks.dtype} {tuple(masks.shape)}.")
    num_masks, height, width = masks.shape
    if not num_masks:
        return []
    changes = _changes_on_cpu(masks.numpy()) if masks.device.type == "cpu" else _changes_on_gpu(masks)
    return _compress(changes, height, width)


def encode_strip(strip: Tensor, left: int, width: int) -> dict:
    """Encode a mask that is empty outside a strip of columns.

    Args:
        strip: (H, w), bool, on the CPU: all rows of the columns from `left` on.
        left: first column of the strip.
        width: width of the mask in pixels.

    Returns:
        the dict that `encode_masks` returns for the whole mask.
    """
    height, strip_width = strip.shape
    (changes,) = _changes_on_cpu(strip.numpy()[None])
    # If the strip's last pixel is set, the object ends behind it.  At the end of the mask that would be an empty run.
    ends = [height * strip_width] if strip[-1, -1] and left + strip_width < width else []
    return _compress([np.append(changes, ends) + left * height], height, width)[0]


def encode_crop(crop: Tensor, top: int, left: int, size: tuple[int, int]) -> dict:
    """Encode a mask that is empty outside a crop.

    Args:
        crop: (h, w), bool, on the CPU.
        top, left: first row and first column of the crop in the mask, in pixels.
        size: (H, W) of the mask in pixels.

    Returns:
        the dict that `encode_masks` returns for the whole mask.
    """
    height, width = size
    if not crop.numel():
        return _compress([np.zeros(0, dtype=np.int64)], height, width)[0]
    # Below an empty row every run ends within its column.
    (changes,) = _changes_on_cpu(F.pad(crop, (0, 0, 0, 1)).numpy()[None])
    x, y = np.divmod(changes, crop.shape[0] + 1)
    # Where the crop has all rows, the end of a run may be the beginning of the next one: the two are one run.
    positions, counts = np.unique((x + left) * height + y + top, return_counts=True)
    return _compress([positions[(counts == 1) & (positions < height * width)]], height, width)[0]


def decode_crop(rle: dict) -> tuple[np.ndarray, int, int]:
    """Decode the smallest crop that holds all of a mask, without decoding the rest.

    Args:
        rle: a mask of `encode_masks`.

    Returns:
        the crop, bool (h, w), with its first row and first column in the mask; (0, 0) pixels if the mask is empty.
    """
    left, top, width, height = coco_mask.toBbox(rle).astype(int).tolist()
    mask_height = rle["size"][0]
    edges = np.cumsum(_run_lengths(rle["counts"]))
    # The runs of the crop's columns, without those before and after them.
    edges = np.clip(edges, left * mask_height, (left + width) * mask_height)
    is_set = np.arange(len(edges)) % 2 == 1
    columns = np.repeat(is_set, np.diff(edges, prepend=left * mask_height)).reshape(width, mask_height)
    return np.ascontiguousarray(columns[:, top : top + height].T), top, left


def _run_lengths(counts: bytes) -> np.ndarray:
    """Return the lengths of the runs of a mask, of which the first is background.

    COCO writes a number as characters from "0" on, with 5 bits each, the lowest first; a sixth bit says that more
    follow, and the fifth bit of the last one is the sign.  From the fourth number on, it is the difference from the
    number two places before.
    """
    characters = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(characters & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(characters)) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((characters & 31) << 5 * places, starts)
    numbers -= np.where(characters[ends] & 16, np.int64(1) << 5 * (ends - starts + 1), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _compress(changes: Iterable[np.ndarray], height: int, width: int) -> list[dict]:
    # The first run is background, and its length is 0 if the first pixel is set.
    counts = [np.diff(positions, prepend=0, append=height * width) for positions in changes]
    return coco_mask.frPyObjects([{"size": [height, width], "counts": runs} for runs in counts], height, width)


def _changes_on_cpu(masks: np.ndarray) -> Iterator[np.ndarray]:
    """Yield for each mask the sorted positions x * H + y of the pixels that differ from the one before them.

    The first pixel is compared with 0.
    """
    height, width = masks.shape[1:]
    is_change = np.empty((height, width), dtype=bool)
    for mask in masks:
        np.not_equal(mask[1:], mask[:-1], out=is_change[1:])
        # Before the first pixel of a column comes the last pixel of the column to its left.
        np.not_equal(mask[0, 1:], mask[-1, :-1], out=is_change[0, 1:])
        is_change[0, 0] = mask[0, 0]
        y, x = np.divmod(np.flatnonzero(is_change), width)
        yield np.sort(x * height + y)


def _changes_on_gpu(masks: Tensor) -> Iterator[np.ndarray]:
    """Yield the same positions as `_changes_on_cpu`, found on the GPU, because copying the masks would take longer."""
    height, width = masks.shape[1:]
    for chunk in masks.split(max(1, CHUNK_PIXELS_GPU // (height * width))):
        columns = chunk.transpose(1, 2).flatten(1)  # (N, H, W) -> (N, W * H)
        is_change = columns.clone()
        torch.ne(columns[:, 1:], columns[:, :-1], out=is_change[:, 1:])
        index = is_change.flatten().nonzero()[:, 0].cpu().numpy()
        starts = np.arange(len(chunk)) * (height * width)
        pieces = np.split(index, np.searchsorted(index, starts[1:]))
        yield from (piece - start for piece, start in zip(pieces, starts, strict=True))
