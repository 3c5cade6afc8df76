"""Sampling maps at points, and drawing points where a mask is uncertain.

Shapes: N masks, P points.  Points are (x, y) in [0, 1] of the whole map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cell_centres(height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The centres of a map's cells, row by row, (height * width, 2), on the CPU."""
    y, x = ((torch.arange(side, dtype=dtype) + 0.5) / side for side in (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def sample_points(maps: Tensor, points: Tensor, inside: bool = False) -> Tensor:
    """Sample maps at points with bilinear interpolation; outside the map the value is 0.

    Args:
        maps: (N, C, h, w).
        points: (N, P, 2), or (1, P, 2) for the same points on all maps.
        inside: whether the outermost cells are repeated outside the map, instead of 0.

    Returns:
        (N, C, P).

    Source: PointRend, https://arxiv.org/abs/1912.08193
    """
    grid = (2 * points - 1)[:, :, None]
    options = {"padding_mode": "border" if inside else "zeros", "align_corners": False}
    if len(points) == 1 and len(maps) > 1:
        # As one map with N * C channels, so that the corners of each point are computed only once.
        stacked = maps.flatten(0, 1)[None]
        return F.grid_sample(stacked, grid, **options).view(*maps.shape[:2], -1)
    return F.grid_sample(maps, grid, **options).squeeze(3)


@torch.no_grad()
def uncertain_points(
    mask_logits: Tensor, num_points: int, oversample_ratio: float, importance_ratio: float, inside: bool = False,
    regions_xyxy: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Draw random points, most of them where a mask's logit is near 0.

    Args:
        mask_logits: (N, h, w).
        num_points: number of points for each mask.
        oversample_ratio: number of candidates for each point.
        importance_ratio: share of the points that are the most uncertain candidates; the others are random.
        inside: see `sample_points`.
        regions_xyxy: (N, 4), boxes in [0, 1] of the map in which the candidates are drawn; None for the whole map.

    Returns:
        (N, num_points, 2).

    Source: PointRend, https://arxiv.org/abs/1912.08193
    """
    num_masks = len(mask_logits)
    options = {"device": mask_logits.device, "dtype": mask_logits.dtype}
    num_uncertain = int(importance_ratio * num_points)
    candidates = torch.rand(num_masks, int(num_points * oversample_ratio), 2, **options)
    if regions_xyxy is not None:
        candidates = place_in_regions(candidates, regions_xyxy[:, None].to(candidates))
    candidate_logits = sample_points(mask_logits[:, None], candidates, inside).squeeze(1)
    chosen = candidate_logits.abs().topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    anywhere = torch.rand(num_masks, num_points - num_uncertain, 2, **options)
    return torch.cat([uncertain, anywhere], dim=1)


def place_in_regions(points: Tensor, regions_xyxy: Tensor) -> Tensor:
    """Map points (..., 2) from [0, 1] of a region to [0, 1] of the map; regions are (..., 4) in [0, 1] of the map."""
    corner, opposite = regions_xyxy[..., :2], regions_xyxy[..., 2:]
    return corner + points * (opposite - corner)


def regions_around(boxes_cxcywh: Tensor, factor: float) -> Tensor:
    """Enlarge boxes (N, 4) by a factor around their centres, clip them to the map, and return them as xyxy (N, 4)."""
    half = boxes_cxcywh[:, 2:] * (factor / 2)
    return torch.cat([boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half], dim=1).clamp(0, 1)


def sample_masks(masks: Tensor, mask_index: Tensor, points: Tensor, inside: bool = False) -> Tensor:
    """Sample binary masks with bilinear interpolation, without copying them or converting them to floats.

    Args:
        masks: (T, H, W), bool.
        mask_index: (N,), index of the mask that each row of points reads.
        points: (N, P, 2), or (1, P, 2) for the same points in all rows.
        inside: whether the nearest pixel of the mask is read, without interpolation.

    Returns:
        (N, P) in the points' dtype; the value outside a mask is 0.
    """
    _, height, width = masks.shape
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    if inside:
        x, y = x.round().clamp(0, width - 1), y.round().clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    flat, first = masks.flatten(), (mask_index * (height * width))[:, None]
    total = torch.zeros(len(mask_index), points.shape[1], dtype=points.dtype, device=points.device)
    for dy, row_share in ((0, 1 - bottom_share), (1, bottom_share)):
        for dx, column_share in ((0, 1 - right_share), (1, right_share)):
            column, row = (left + dx).long(), (top + dy).long()
            is_inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            offset = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            total += flat[first + offset] * (row_share * column_share * is_inside)
    return total
