"""Sampling maps at points, and drawing points where a mask is uncertain.

Shapes: N masks, P points.  Points are (x, y) in [0, 1] of the whole map.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .window import Window


def cell_centres(height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the centres of a map's cells, row by row, (height * width, 2), on the CPU."""
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


def sample_points_backward(gradient: Tensor, points: Tensor, size: tuple[int, int], inside: bool = False) -> Tensor:
    """Compute the gradient (N, h, w) of maps with one channel from the gradient of their samples.

    Args:
        gradient: (N, P).
        points: (N, P, 2).
        size: (h, w).
        inside: see `sample_points`.
    """
    grid, padding_mode = (2 * points - 1)[:, :, None], 1 if inside else 0
    # Of the maps only the shape counts, as the points need no gradient.
    maps = gradient.new_empty(1).expand(len(gradient), 1, *size)
    of_maps, _ = torch.ops.aten.grid_sampler_2d_backward(
        gradient[:, None, :, None], maps, grid, 0, padding_mode, False, [True, False]
    )
    return of_maps.squeeze(1)


class UncertainPoints:
    """Draws random points of masks and chooses those where a mask's logit is near 0, and some others.

    All random numbers are drawn at once, and the points are chosen for a few masks at a time.

    Attributes:
        num_points, num_uncertain: number of points of each mask, and how many of them are uncertain.
        inside, regions_xyxy: the arguments.
        anywhere: (N, num_points - num_uncertain, 2), the other points.

    Source: PointRend, https://arxiv.org/abs/1912.08193
    """

    def __init__(
        self, num_masks: int, num_points: int, *, oversample_ratio: float, importance_ratio: float,
        inside: bool = False, regions_xyxy: Tensor | None = None, like: Tensor,
    ):  # fmt: skip
        """Draw the random numbers.

        Args:
            num_masks: `N`.
            num_points: number of points for each mask.
            oversample_ratio: number of candidates for each point.
            importance_ratio: share of the points that are the most uncertain candidates; the others are random.
            inside: see `sample_points`.
            regions_xyxy: (N, 4), boxes in [0, 1] of the map in which the candidates are drawn; None for the whole map.
            like: a tensor with the device and dtype of the points.
        """
        options = {"device": like.device, "dtype": like.dtype}
        self.num_points, self.inside, self.regions_xyxy = num_points, inside, regions_xyxy
        self.num_uncertain = int(importance_ratio * num_points)
        self._candidates = torch.rand(num_masks, int(num_points * oversample_ratio), 2, **options)
        self.anywhere = torch.rand(num_masks, num_points - self.num_uncertain, 2, **options)

    @torch.no_grad()
    def choose_uncertain(self, which: Tensor, logits: Tensor, window: Window) -> Tensor:
        """Choose the uncertain points of some masks.

        Args:
            which: (n,), indices of the masks.
            logits: (n, rows, columns), logits of the masks in a window.
            window: the window, in which all candidates of these masks are.

        Returns:
            (n, num_uncertain, 2), in [0, 1] of the whole map.
        """
        candidates = self._candidates[which]
        if self.regions_xyxy is not None:
            candidates = place_in_regions(candidates, self.regions_xyxy[which, None].to(candidates))
        sampled = sample_points(logits[:, None], window.localise(candidates), self.inside).squeeze(1)
        chosen = indices_of_smallest(sampled.abs(), self.num_uncertain)
        return candidates.gather(1, chosen[..., None].expand(-1, -1, 2))

    def choose(self, which: Tensor, logits: Tensor, window: Window) -> Tensor:
        """Choose all points of some masks, (n, num_points, 2); the arguments are those of `choose_uncertain`."""
        return torch.cat([self.choose_uncertain(which, logits, window), self.anywhere[which]], dim=1)


def indices_of_smallest(values: Tensor, count: int) -> Tensor:
    """Find the smallest values of each row, (N, M) -> (N, count) indices in any order.

    On a CPU numpy does it several times as fast as PyTorch 2.11.
    """
    if values.device.type != "cpu" or not 0 < count < values.shape[1]:
        return values.topk(count, dim=1, largest=False, sorted=False).indices
    return torch.from_numpy(np.argpartition(values.detach().numpy(), count, axis=1)[:, :count])


def place_in_regions(points: Tensor, regions_xyxy: Tensor) -> Tensor:
    """Map points (..., 2) from [0, 1] of a region to [0, 1] of the map; regions are (..., 4) in [0, 1] of the map."""
    corner, opposite = regions_xyxy[..., :2], regions_xyxy[..., 2:]
    return corner + points * (opposite - corner)


def regions_around(boxes_cxcywh: Tensor, factor: float) -> Tensor:
    """Enlarge boxes (N, 4) by a factor around their centres, clip them to the map, and return them as xyxy (N, 4)."""
    half = boxes_cxcywh[:, 2:] * (factor / 2)
    return torch.cat([boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half], dim=1).clamp(0, 1)


def sample_masks(masks: Tensor, mask_index: Tensor, points: Tensor, inside: bool = False) -> Tensor:
    """Sample binary masks with bilinear interpolation, without copying more than one of them at a time.

    Args:
        masks: (T, H, W), bool.
        mask_index: (N,), index of the mask that each row of points reads.
        points: (N, P, 2), or (1, P, 2) for the same points in all rows.
        inside: whether the nearest pixel of the mask is read, without interpolation.

    Returns:
        (N, P) in the points' dtype; the value outside a mask is 0.
    """
    if masks.device.type == "cpu":
        return _sample_mask_by_mask(masks, mask_index, points, inside)
    return _sample_all_masks(masks, mask_index, points, inside)


def _sample_mask_by_mask(masks: Tensor, mask_index: Tensor, points: Tensor, inside: bool) -> Tensor:
    """Sample one mask after the other, so that a mask and its points fit into a processor's cache."""
    options = {"mode": "nearest", "padding_mode": "border"} if inside else {}
    samples = points.new_empty(len(mask_index), points.shape[1])
    counts = torch.bincount(mask_index, minlength=len(masks)).tolist()
    for mask, rows in zip(masks, mask_index.argsort(stable=True).split(counts), strict=True):
        if len(rows):
            grid = 2 * (points[rows] if len(points) > 1 else points.expand(len(rows), -1, -1)) - 1
            values = F.grid_sample(mask[None, None].to(points.dtype), grid[None], align_corners=False, **options)
            samples[rows] = values[0, 0]
    return samples


def _sample_all_masks(masks: Tensor, mask_index: Tensor, points: Tensor, inside: bool) -> Tensor:
    """Sample all masks at once, in few operations."""
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
