"""Box arithmetic on (..., 4) tensors in any unit."""

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Convert (centre x, centre y, width, height) to (x0, y0, x1, y1)."""
    centre, half_size = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half_size, centre + half_size], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Convert (x0, y0, x1, y1) to (centre x, centre y, width, height)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def iou_and_giou(boxes_a: Tensor, boxes_b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute intersection over union (IoU) and generalised IoU of two broadcastable sets of xyxy boxes.

    Pass (N, 1, 4) and (1, M, 4) for all pairs, (N, 4) and (N, 4) for row by row.

    Returns:
        IoU and GIoU, in the broadcast shape without the last dimension.  Two empty boxes at one point have IoU 0.

    Source: https://arxiv.org/abs/1902.09630
    """
    low_a, high_a, low_b, high_b = boxes_a[..., :2], boxes_a[..., 2:], boxes_b[..., :2], boxes_b[..., 2:]
    intersection = _area(torch.maximum(low_a, low_b), torch.minimum(high_a, high_b))
    union = _area(low_a, high_a) + _area(low_b, high_b) - intersection
    hull = _area(torch.minimum(low_a, low_b), torch.maximum(high_a, high_b))
    smallest = torch.finfo(union.dtype).tiny
    iou = intersection / union.clamp(min=smallest)
    return iou, iou - (hull - union) / hull.clamp(min=smallest)


def _area(low: Tensor, high: Tensor) -> Tensor:
    size = (high - low).clamp(min=0)
    return size[..., 0] * size[..., 1]


def shift_and_scale(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Move the centres of cxcywh boxes (..., 4) by deltas in units of the box sides, and scale the sides by exp(delta).

    Source: R-CNN, https://arxiv.org/abs/1311.2524
    """
    centre, size = boxes.split(2, dim=-1)
    shift, log_scale = deltas.to(boxes.dtype).split(2, dim=-1)
    return torch.cat([centre + shift * size, size * log_scale.exp()], dim=-1)


def shift_logits(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (..., 4) in [0, 1] whose logits are moved by deltas.

    Source: Deformable DETR, https://arxiv.org/abs/2010.04159
    """
    return (deltas + inverse_sigmoid(boxes)).sigmoid()


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the logits of probabilities, which are clamped to stay `eps` away from 0 and 1."""
    x = x.clamp(min=0, max=1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def cells_inside(boxes_xyxy: Tensor, height: int, width: int) -> Tensor:
    """Return which cells of a map lie in boxes: (..., 4), xyxy in cells -> (..., height, width), bool.

    A cell counts by its index: column x lies in a box if x0 <= x < x1.
    """
    columns = torch.arange(width, device=boxes_xyxy.device)
    rows = torch.arange(height, device=boxes_xyxy.device)
    x0, y0, x1, y1 = (edge[..., None] for edge in boxes_xyxy.unbind(-1))
    in_rows, in_columns = (rows >= y0) & (rows < y1), (columns >= x0) & (columns < x1)
    return in_rows[..., :, None] & in_columns[..., None, :]


def boxes_of_occupied(columns: Tensor, rows: Tensor) -> Tensor:
    """Return the smallest boxes around masks.

    Args:
        columns: (..., width), bool, True for the columns of pixels that a mask reaches into.
        rows: (..., height), bool, the same for the rows.

    Returns:
        (..., 4), float32, xyxy in pixels; zeros for an empty mask.
    """
    (x0, x1), (y0, y1) = first_and_after_last(columns), first_and_after_last(rows)
    return torch.stack([x0, y0, x1, y1], dim=-1).float()


def first_and_after_last(is_set: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of the first True and one past the last along the last axis; 0 and 0 if there is none.

    Args:
        is_set: (..., L), bool.

    Returns:
        two int64 tensors (...).
    """
    length = is_set.shape[-1]
    place = torch.arange(1, length + 1, device=is_set.device)
    after_last = (place * is_set).amax(-1)
    from_end = (place.flip(0) * is_set).amax(-1)
    return (length - from_end) * (from_end > 0), after_last
