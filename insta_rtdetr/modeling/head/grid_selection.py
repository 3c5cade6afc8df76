"""The best cells of SOLOv2's grids as queries: each object is found by several cells, and Matrix NMS leaves one.

Shapes: B images, Q cells of all grids, N of them that are selected, K classes, P cells of the mask map.
Source: SOLOv2, https://arxiv.org/abs/2003.10152
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.precision import full_precision
from ...structures import Prediction
from ..postprocessing import mean_within
from .query_selection import take

# Sharpness of the Gaussian by which an overlap lowers the score of the worse object. `sigma` in SOLOv2.
SIGMA = 2.0


class GridSelection(nn.Module):
    """Selects cells by the probabilities of their classes, and gives them scores that count masks and duplicates."""

    def __init__(
        self, *, grid_sides: tuple[int, ...], min_areas: list[int], num_queries: int, class_threshold: float,
        mask_threshold: float,
    ):  # fmt: skip
        """Set up the selection.

        Args:
            grid_sides: number of cells along each side of each grid.
            min_areas: for each grid, the number of cells of the mask map that a mask must exceed.
            num_queries: `N`.
            class_threshold: probability that a class must exceed.
            mask_threshold: probability above which a cell of the mask map belongs to a mask.

        Raises:
            ValueError: `num_queries` is not positive.
        """
        super().__init__()
        if num_queries < 1:
            raise ValueError(f"MODEL.DECODER.NUM_QUERIES must be at least 1, got {num_queries}.")
        self.grid_sides, self.num_queries = tuple(grid_sides), num_queries
        self.class_threshold, self.mask_threshold = class_threshold, mask_threshold
        cells = torch.tensor([side**2 for side in self.grid_sides])
        self.register_buffer("min_areas", torch.tensor(min_areas).repeat_interleave(cells), persistent=False)

    def forward(self, prediction: Prediction) -> Prediction:
        """Select N pairs of a cell and a class, whatever their scores.

        Returns:
            class_logits (B, N, K), whose probabilities are 0 for all classes but the selected one, and mask embeddings
            (B, N, C_mask).
        """
        with torch.autocast(prediction.class_logits.device.type, enabled=False):
            probs = self._candidates(full_precision(prediction.class_logits).sigmoid())
            num_classes = probs.shape[2]
            scores, index = probs.flatten(1).topk(min(self.num_queries, probs.shape[1] * num_classes), dim=1)
            cells = torch.div(index, num_classes, rounding_mode="floor")
            classes = index - cells * num_classes
            features = full_precision(prediction.mask_features)
            embeddings = take(full_precision(prediction.mask_embeddings), cells)
            mask_probs = torch.einsum("bnc, bchw -> bnhw", embeddings, features).sigmoid()
            scores = self._rescore(mask_probs, scores, classes, self.min_areas[cells])
        is_class = classes[..., None] == torch.arange(num_classes, device=classes.device)
        probs = torch.where(is_class, scores[..., None], 0.0)
        return Prediction(probs.logit(), mask_embeddings=embeddings, mask_features=features)

    def _candidates(self, probs: Tensor) -> Tensor:
        """Set the probabilities (B, Q, K) to 0 that are no peaks of their grid, or below the threshold."""
        grids = probs.split([side**2 for side in self.grid_sides], dim=1)
        peaks = torch.cat([keep_peaks(grid, side) for grid, side in zip(grids, self.grid_sides, strict=True)], dim=1)
        return torch.where(peaks > self.class_threshold, peaks, 0.0)

    def _rescore(self, mask_probs: Tensor, scores: Tensor, classes: Tensor, min_areas: Tensor) -> Tensor:
        """Return the final scores (B, N) from masks (B, N, h, w), and scores, classes and smallest areas (B, N)."""
        masks = mask_probs > self.mask_threshold
        scores = scores * mean_within(mask_probs, masks) * (masks.sum((-2, -1)) > min_areas)
        return scores * matrix_nms_decay(masks.flatten(2), classes, scores)


def keep_peaks(probs: Tensor, side: int) -> Tensor:
    """Set probabilities to 0 where the cell above, left of or above left of a cell has a higher one.

    Args:
        probs: (B, S * S, K), of the cells of a grid, row by row.
        side: `S`.

    Returns:
        (B, S * S, K).
    """
    maps = probs.transpose(1, 2).unflatten(2, (side, side))
    best = F.max_pool2d(maps, 2, stride=1, padding=1)[..., :-1, :-1]
    return torch.where(maps == best, maps, 0.0).flatten(2).transpose(1, 2)


def matrix_nms_decay(masks: Tensor, classes: Tensor, scores: Tensor) -> Tensor:
    """Return factors (B, N) that lower the scores of masks that overlap better ones of their class.

    A better mask counts less the more it overlaps a still better one itself.

    Args:
        masks: (B, N, P), bool.
        classes: (B, N).
        scores: (B, N); of two equal scores, the first one is the better.
    """
    # The square of this scale divides the products by P, so that half precision can hold those of large maps.
    pixels = masks.to(scores) * masks.shape[2] ** -0.5
    overlap, area = pixels @ pixels.transpose(1, 2), pixels.square().sum(2)
    union = area[:, :, None] + area[:, None] - overlap
    rank = torch.arange(scores.shape[1], device=scores.device)
    is_equal = (scores[:, :, None] == scores[:, None]) & (rank[:, None] < rank)
    is_better = (scores[:, :, None] > scores[:, None]) | is_equal
    counts = is_better & (classes[:, :, None] == classes[:, None])
    iou = torch.where(counts, overlap / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)  # of better and worse
    own_worst = iou.amax(1)  # (B, N)
    return torch.exp(SIGMA * (own_worst.square()[:, :, None] - iou.square())).amin(1)
