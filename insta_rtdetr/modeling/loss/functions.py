"""Losses and matching costs as plain functions of tensors.

Shapes: N matched pairs, Q queries, T objects, K classes, P points.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...layers.mask_resize import areas_of

# Masks that are converted to floats at a time, which bounds the memory.
MASKS_AT_A_TIME = 32


def varifocal_loss(
    logits: Tensor, target_scores: Tensor, is_positive: Tensor, alpha: float, gamma: float, detach_weight: bool
) -> Tensor:
    """Sum the binary cross-entropy whose target for a matched class is the quality of the match.

    Args:
        logits: (B, Q, K).
        target_scores: (B, Q, K), in [0, 1]; 0 except for matched classes.
        is_positive: (B, Q, K), True for matched classes.
        alpha: weight of negatives.
        gamma: exponent that reduces the weight of easy negatives.
        detach_weight: whether no gradient flows through the weight of negatives.

    Source: VarifocalNet, https://arxiv.org/abs/2008.13367
    """
    weight = torch.where(is_positive, target_scores, _negative_weight(logits, alpha, gamma, detach_weight))
    return (F.binary_cross_entropy_with_logits(logits, target_scores, reduction="none") * weight).sum()


def matchability_aware_loss(
    logits: Tensor, target_scores: Tensor, is_positive: Tensor, alpha: float, gamma: float, detach_weight: bool
) -> Tensor:
    """Sum the binary cross-entropy in which matches of low quality weigh as much as others.

    Varifocal loss gives a match of little overlap little weight.  Here every match has the weight 1, and its target is
    overlap ** gamma.

    Args:
        logits: (B, Q, K).
        target_scores: (B, Q, K), overlap in [0, 1]; 0 except for matched classes.
        is_positive: (B, Q, K), True for matched classes.
        alpha: weight of negatives.
        gamma: exponent of the overlap, and of the probability in the weight of negatives.
        detach_weight: whether no gradient flows through the weight of negatives.

    Source: DEIM, https://arxiv.org/abs/2412.04234
    """
    weight = torch.where(is_positive, 1.0, _negative_weight(logits, alpha, gamma, detach_weight))
    losses = F.binary_cross_entropy_with_logits(logits, target_scores.pow(gamma), reduction="none")
    return (losses * weight).sum()


def _negative_weight(logits: Tensor, alpha: float, gamma: float, detach_weight: bool) -> Tensor:
    """Return the weight of negatives, alpha * probability ** gamma, which is small for easy ones."""
    weighed = logits.detach() if detach_weight else logits
    return alpha * weighed.sigmoid().pow(gamma)


def iou_aware_bce_loss(
    logits: Tensor, iou: Tensor, is_positive: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Sum the binary cross-entropy whose target for a match combines the predicted probability and the overlap.

    Args:
        logits: (B, Q, K).
        iou: (B, Q, K), IoU of each match's boxes, in [0, 1].
        is_positive: (B, Q, K), True for matched classes.
        alpha: exponent of the probability p in the target p^alpha * iou^(1 - alpha), which is at least 0.01.
        gamma: exponent of the probability in the weight of negatives, through which gradients flow.

    Source: LW-DETR, https://arxiv.org/abs/2406.03459; https://arxiv.org/abs/2112.03476
    """
    probs = logits.sigmoid()
    target = (probs.detach().pow(alpha) * iou.pow(1 - alpha)).clamp(min=0.01)
    positive_weight = torch.where(is_positive, target, 0.0)
    negative_weight = torch.where(is_positive, 1 - target, probs.pow(gamma))
    return (negative_weight * logits - F.logsigmoid(logits) * (positive_weight + negative_weight)).sum()


def distribution_focal_loss(logits: Tensor, values: Tensor) -> Tensor:
    """Return the cross-entropy (N, S) that draws a distribution to the two bins on both sides of a value.

    Args:
        logits: (N, S, R), before softmax; bin `r` stands for the value r.
        values: (N, S), clipped to [0, R - 1.01].

    Source: generalized focal loss, https://arxiv.org/abs/2006.04388
    """
    log_probs = logits.log_softmax(-1)
    values = values.clamp(0, logits.shape[-1] - 1.01)
    lower = values.floor()
    both = torch.stack([lower, lower + 1], dim=-1).long()
    share_of_upper = values - lower
    weights = torch.stack([1 - share_of_upper, share_of_upper], dim=-1)
    return -(log_probs.gather(-1, both) * weights).sum(-1)


def mask_bce_loss(point_logits: Tensor, point_labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy (N,) over the points of each mask, from (N, P) logits and labels."""
    return F.binary_cross_entropy_with_logits(point_logits, point_labels, reduction="none").mean(1)


def mask_dice_loss(point_logits: Tensor, point_labels: Tensor) -> Tensor:
    """Return the Dice loss (N,) of each mask, smoothed by 1, from (N, P) logits and labels.

    Source: V-Net, https://arxiv.org/abs/1606.04797
    """
    probs = point_logits.sigmoid()
    overlap = (probs * point_labels).sum(-1)
    return 1 - (2 * overlap + 1) / (probs.sum(-1) + point_labels.sum(-1) + 1)


def squared_dice_loss(logits: Tensor, masks: Tensor, smoothing: float = 1e-4) -> Tensor:
    """Dice loss (N,) of each mask with squares in the denominator.

    Args:
        logits: (N, P).
        masks: (N, P), in [0, 1].
        smoothing: added to the denominator.

    Source: V-Net, https://arxiv.org/abs/1606.04797, as in SOLO, https://arxiv.org/abs/1912.04488
    """
    probs = logits.sigmoid()
    overlap = (probs * masks).sum(1)
    return 1 - 2 * overlap / (probs.square().sum(1) + masks.square().sum(1) + smoothing)


def pairwise_dice_scores(logits: Tensor, masks: Tensor) -> Tensor:
    """The dice scores (Q, T) of all pairs, 1 less `squared_dice_loss`; (Q, P) logits and (T, P) masks."""
    probs = logits.sigmoid()
    return 2 * probs @ masks.T / (probs.square().sum(1)[:, None] + masks.square().sum(1) + 1e-4)


def shrink_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Bool masks (T, H, W) -> (T, *size), float32: read between pixels, in [0, 1]."""
    if not len(masks):
        return masks.new_zeros(0, *size, dtype=torch.float32)
    parts = [
        F.interpolate(part[:, None].float(), size=size, mode="bilinear")[:, 0] for part in masks.split(MASKS_AT_A_TIME)
    ]
    return torch.cat(parts)


def first_pixels(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the first pixel of each cell: bool masks (T, H, W) -> (T, *size), float32.

    Masks move by up to half a cell to the lower right, which matters for objects of a few cells.
    """
    rows, columns = (
        torch.arange(cells, device=masks.device) * pixels // cells
        for cells, pixels in zip(size, masks.shape[1:], strict=True)
    )
    return masks[:, rows[:, None], columns].float()


def reduce_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bool masks (T, H, W) to (T, *size): a pixel is set if its bilinear sample is above 0.5."""
    return shrink_masks(masks, size) > 0.5


def mask_iou(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Return the IoU (N,), smoothed by 0.01 pixels, of each pair of bool masks (N, h, w)."""
    overlap, union = (areas_of(pixels) + 1e-2 for pixels in (predicted & wanted, predicted | wanted))
    return overlap / union


def focal_cost(logits: Tensor, classes: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the class cost (Q, T) of pairing queries of logits (Q, K) with objects of classes (T,).

    Source: Deformable DETR, https://arxiv.org/abs/2010.04159
    """
    probs = logits.sigmoid()[:, classes]
    positive = alpha * (1 - probs) ** gamma * -(probs + 1e-8).log()
    negative = (1 - alpha) * probs**gamma * -(1 - probs + 1e-8).log()
    return positive - negative


def mask_bce_cost(point_logits: Tensor, point_labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy (Q, T) of each pair, from (Q, P) logits and (T, P) labels."""
    # One matrix product is enough, because bce(x, 1) - bce(x, 0) = -x.
    as_background = F.softplus(point_logits).mean(1, keepdim=True)
    return as_background - point_logits @ point_labels.T / point_logits.shape[1]


def mask_dice_cost(point_logits: Tensor, point_labels: Tensor) -> Tensor:
    """Return the Dice loss (Q, T) of each pair, smoothed by 1, from (Q, P) logits and (T, P) labels."""
    probs = point_logits.sigmoid()
    overlap = probs @ point_labels.T
    return 1 - (2 * overlap + 1) / (probs.sum(-1)[:, None] + point_labels.sum(-1) + 1)
