"""Non-maximum suppression as a fixed number of matrix products, which every runtime of exported networks computes."""

import torch
from torch import Tensor

from .boxes import iou_and_giou

# Even, so that no box is left out wrongly; see `suppress`.
ROUNDS = 32


def suppress(boxes_xyxy: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Return which boxes non-maximum suppression within each class leaves.

    Each round leaves out the boxes that overlap a better box which the round before it left.  After an even number of
    rounds, all boxes are left that suppression one by one leaves.  Others are left only if more than `ROUNDS` boxes
    overlap each other in turn; a second suppression of what is left removes them.

    Args:
        boxes_xyxy: (B, M, 4), best first.
        classes: (B, M).
        threshold: a box is left out if its IoU with a better box of its class is above this.

    Returns:
        (B, M), bool.
    """
    iou, _ = iou_and_giou(boxes_xyxy[:, :, None], boxes_xyxy[:, None])
    rank = torch.arange(boxes_xyxy.shape[1], device=boxes_xyxy.device)
    is_rival = (classes[:, :, None] == classes[:, None]) & (rank[:, None] < rank)
    overlaps = ((iou > threshold) & is_rival).to(boxes_xyxy.dtype)
    is_left = torch.ones_like(boxes_xyxy[:, None, :, 0])  # (B, 1, M)
    for _ in range(ROUNDS):
        is_left = (is_left @ overlaps == 0).to(overlaps.dtype)
    return is_left[:, 0] > 0
