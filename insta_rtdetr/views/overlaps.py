"""Overlaps of masks in run-length code.

Shapes: N and M masks of one image size.
"""

import numpy as np
import pycocotools.mask as coco_mask
import torch
from detectron2.structures import Instances

from insta_rtdetr.layers.mask_rle import encode_crop, encode_masks
from insta_rtdetr.layers.rle_masks import RleMasks


def rles_of(instances: Instances) -> list[dict]:
    """Return the masks of N objects as N dicts of pycocotools; of objects without masks, their boxes as masks."""
    if not instances.has("pred_masks"):
        return [_box_as_mask(box, instances.image_size) for box in instances.pred_boxes.tensor.tolist()]
    masks = instances.pred_masks
    return masks.rles if isinstance(masks, RleMasks) else encode_masks(masks)


def areas_of(rles: list[dict]) -> np.ndarray:
    """Return the areas (N,) of masks in pixels."""
    # One call for each mask, because pycocotools 2.0.11 fails on more than 255 masks.
    return np.array([float(coco_mask.area(rle)) for rle in rles])


def ious(rles_a: list[dict], rles_b: list[dict]) -> np.ndarray:
    """Return the IoUs (N, M) of two sets of masks; 0 for an empty mask."""
    if not rles_a or not rles_b:
        return np.zeros((len(rles_a), len(rles_b)))
    return np.asarray(coco_mask.iou(rles_a, rles_b, [0] * len(rles_b)))


def intersections(rles_a: list[dict], rles_b: list[dict]) -> np.ndarray:
    """Return the intersections (N, M) of two sets of masks in pixels."""
    if not rles_a or not rles_b:
        return np.zeros((len(rles_a), len(rles_b)))
    # For crowds pycocotools divides the intersection by the area of the first mask alone.
    shares = coco_mask.iou(rles_a, rles_b, [1] * len(rles_b))
    return np.asarray(shares) * areas_of(rles_a)[:, None]


def _box_as_mask(box_xyxy: list[float], size_hw: tuple[int, int]) -> dict:
    height, width = size_hw
    left, right = (int(np.clip(round(edge), 0, width)) for edge in box_xyxy[::2])
    top, bottom = (int(np.clip(round(edge), 0, height)) for edge in box_xyxy[1::2])
    return encode_crop(torch.ones(bottom - top, right - left, dtype=torch.bool), top, left, size_hw)
