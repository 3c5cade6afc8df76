"""Rules for the masks of a COCO file, which the training loader and the dataset check share."""

import math
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

# Largest distance of a polygon's point, in image sides: an outline of a billion pixels would fill the memory.
MAX_DISTANCE = 10
NO_MASK = "without a mask"


class UnusableMask(ValueError):
    """Error in a mask because of which its object must be left out; the message completes "objects ..."."""


def clean_segmentation(segmentation: Any, height: int, width: int) -> Any:
    """Return the part of a segmentation that can be drawn.

    Args:
        segmentation: COCO polygons, or RLE, compressed or not.
        height, width: size of the image in pixels.

    Returns:
        the polygons of at least three points, or compressed RLE.

    Raises:
        UnusableMask: no polygon is left, or a point is not finite or far outside the image.
        ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError: it is neither polygons nor RLE, or
            the RLE is not of the image's size.
    """
    if not segmentation:
        raise UnusableMask(NO_MASK)
    if isinstance(segmentation, dict):
        return _clean_rle(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise TypeError(f"it is a {type(segmentation).__name__}")
    polygons = [polygon for polygon in segmentation if len(polygon) % 2 == 0 and len(polygon) >= 6]
    if not all(isinstance(polygon[0], (int, float)) for polygon in polygons):
        raise TypeError(f"its polygons hold a {type(polygons[0][0]).__name__}")
    if not polygons:
        raise UnusableMask("whose polygons have fewer than three points, or half a point")
    limit = MAX_DISTANCE * max(height, width)
    for polygon in polygons:
        # The sum is not finite if a number is NaN or infinite; JSON files can hold both.
        if not (math.isfinite(sum(polygon)) and -limit <= min(polygon) and max(polygon) <= limit):
            raise UnusableMask("with a polygon point that is not finite or far outside the image")
    return polygons


def _clean_rle(segmentation: dict, height: int, width: int) -> dict:
    counts, size = segmentation["counts"], segmentation["size"]
    if list(size) != [height, width]:
        raise ValueError(f"its size is {size}, the image's {[height, width]}")
    if isinstance(counts, list):
        segmentation = mask_util.frPyObjects(segmentation, height, width)
        run_lengths = np.asarray(counts, dtype=np.int64)
    elif isinstance(counts, (str, bytes)):
        run_lengths = decode_counts(counts)
    else:
        raise TypeError(f"its counts are a {type(counts).__name__}")
    # pycocotools would fill missing pixels with uninitialised memory.
    if run_lengths.sum() != height * width or (run_lengths < 0).any():
        raise ValueError(f"its counts make {run_lengths.sum()} pixels, the image has {height * width}")
    return segmentation


def decode_counts(counts: str | bytes) -> np.ndarray:
    """Decode the run lengths (int64) of COCO's compressed RLE, which has five bits in a character.

    Raises:
        ValueError: it ends within a number, or a number has more than 60 bits.
    """
    codes = np.frombuffer(counts.encode("latin-1") if isinstance(counts, str) else counts, dtype=np.uint8)
    codes = codes.astype(np.int64) - 48
    if not len(codes):
        return codes
    is_last = (codes & 0x20) == 0
    if not is_last[-1]:
        raise ValueError("its counts end within a number")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 11:
        raise ValueError("its counts hold a number beyond 60 bits")
    numbers = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    is_negative = (codes[ends] & 0x10) != 0
    numbers = np.where(is_negative, numbers - (np.int64(1) << (5 * (place[ends] + 1))), numbers)
    # From the fourth on, a number is stored as its difference from the number two places before it.
    for parity in (1, 2):
        numbers[parity::2] = np.cumsum(numbers[parity::2])
    return numbers


def rasterise(segmentation: Any, height: int, width: int) -> dict:
    """Turn clean polygons or RLE into compressed RLE."""
    if isinstance(segmentation, dict):
        return segmentation
    return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))


def encode(mask: np.ndarray) -> dict:
    """Encode a mask, bool (H, W), as compressed RLE."""
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
