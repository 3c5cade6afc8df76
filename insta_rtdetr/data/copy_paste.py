"""Simple Copy-Paste: pasting objects of one training image into another.

Source: https://arxiv.org/abs/2012.07177 (its scale jitter and flip of the donor; no blending).
Shapes: P pasted objects, (H, W) the receiving image in pixels.
"""

import dataclasses

import numpy as np
from pycocotools import mask as mask_util

from insta_rtdetr.data.segmentation import encode

from .sample import Sample
from .view import View

# The donor is scaled so that it fits into the receiving image, and then by a random factor from this range.
SCALE_RANGE = (0.5, 1.25)


def copy_paste(receiver: Sample, donor: Sample, min_size: float) -> Sample:
    """Paste a random choice of the donor's objects, at least one, over the receiver.

    Args:
        receiver: the sample that the objects are pasted into; it is not changed.
        donor: the sample whose objects are pasted.
        min_size: objects of the receiver of which fewer pixels than this stay visible are dropped, and objects of the
            donor with fewer pixels are not pasted.

    Returns:
        A new sample, in which covered masks are cut and their boxes made tight; the pasted objects come last.
    """
    if len(donor) == 0:
        return receiver
    num_pasted = int(np.random.randint(1, len(donor) + 1))
    chosen = donor.select(np.random.choice(len(donor), num_pasted, replace=False))
    height, width = receiver.image.shape[:2]
    view = _place(chosen.image.shape[:2], (height, width))
    masks = chosen.masks(view)
    is_seen = np.count_nonzero(masks.reshape(num_pasted, -1), axis=1) >= max(min_size, 1)
    if not is_seen.any():
        return receiver
    return _paste(receiver, view.apply_image(chosen.image), masks[is_seen], chosen.classes[is_seen], min_size)


def _place(donor_hw: tuple[int, int], receiver_hw: tuple[int, int]) -> View:
    """Draw a view of the donor with the receiver's size: scaled, at a random place, and mirrored half of the time."""
    fit = min(receiver_hw[0] / donor_hw[0], receiver_hw[1] / donor_hw[1])
    scale = fit * np.random.uniform(*SCALE_RANGE)
    height, width = (max(1, round(side / scale)) for side in receiver_hw)
    # Along each axis the larger one of window and donor contains the smaller one.
    spare_y, spare_x = donor_hw[0] - height, donor_hw[1] - width
    top = int(np.random.randint(min(spare_y, 0), max(spare_y, 0) + 1))
    left = int(np.random.randint(min(spare_x, 0), max(spare_x, 0) + 1))
    flip_x = bool(np.random.rand() < 0.5)
    return View(left, top, width, height, receiver_hw[1], receiver_hw[0], flip_x=flip_x)


def _paste(receiver: Sample, pixels: np.ndarray, masks: np.ndarray, classes: np.ndarray, min_size: float) -> Sample:
    """Copy `pixels` (H, W, 3) over the receiver where any of `masks` (P, H, W) is set."""
    cover = masks.any(axis=0)
    uncovered = cut(receiver, cover, min_size)
    rles = [encode(mask) for mask in masks]
    return Sample(
        np.where(cover[..., None], pixels, receiver.image),
        np.concatenate([uncovered.boxes_xyxy, [tight_box(rle) for rle in rles]]),
        np.concatenate([uncovered.classes, classes]),
        uncovered.segmentations + rles,
    )


def cut(sample: Sample, cover: np.ndarray, min_size: float) -> Sample:
    """Remove the pixels of `cover`, bool (H, W), from a sample's masks; the image is not changed.

    Objects that lose nothing keep their annotation as it is.  Objects left with fewer than `min_size` pixels (at least
    one) are dropped.  The others get an RLE and its tight box.
    """
    view = View.identity(*cover.shape)
    boxes, segmentations = sample.boxes_xyxy.copy(), list(sample.segmentations)
    kept = np.ones(len(sample), dtype=bool)
    for index in range(len(sample)):
        mask = sample.select(np.array([index])).masks(view)[0]
        visible = mask & ~cover
        num_visible = np.count_nonzero(visible)
        if num_visible == np.count_nonzero(mask):
            continue
        kept[index] = num_visible >= max(min_size, 1)
        segmentations[index] = encode(visible)
        boxes[index] = tight_box(segmentations[index])
    return dataclasses.replace(sample, boxes_xyxy=boxes, segmentations=segmentations).select(kept)


def tight_box(rle: dict) -> np.ndarray:
    """Return the box (4,) around the mask of an RLE: x1, y1, x2, y2 in pixels."""
    left, top, width, height = mask_util.toBbox(rle)
    return np.array([left, top, left + width, top + height])
