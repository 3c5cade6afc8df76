"""Instance-activation-guided queries: the features at the local maxima of a class map become queries.

Shapes: B images, Q queries, K classes, C channels, (h, w) the map, S = h * w positions.
Source: FastInst, https://arxiv.org/abs/2303.08594
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...structures import LocatedQueries
from .query_selection import take

# A position with a lower probability is no local maximum.
MIN_MAXIMUM = 1e-6
_NEIGHBOURS = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)]


class PositionGrid(nn.Module):
    """Learned position embeddings: a small square grid that is interpolated to the size of a map."""

    def __init__(self, dim: int, side: int):
        super().__init__()
        self.grid = nn.Parameter(torch.empty(1, dim, side, side))
        nn.init.normal_(self.grid)

    def forward(self, height: int, width: int) -> Tensor:
        """Return the position embeddings (1, height * width, C) of a map."""
        enlarged = F.interpolate(self.grid, size=(height, width), mode="bilinear")
        # Adding them to the tokens is four times as fast with the memory layout of the tokens.
        return enlarged.flatten(2).transpose(1, 2).contiguous()


class QueryProposal(nn.Module):
    """Classifies every position of a map and takes the features at the best local maxima as queries."""

    def __init__(self, dim: int, num_classes: int, num_queries: int):
        super().__init__()
        self.num_queries = num_queries
        self.class_head = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(dim, num_classes + 1, 1)
        )

    def forward(self, level: Tensor, position_grid: PositionGrid) -> tuple[LocatedQueries, Tensor]:
        """Propose the queries.

        Args:
            level: (B, C, h, w), a level of the pyramid.
            position_grid: gives the position embeddings of the queries.

        Returns:
            Q queries of each image, and class logits (B, K + 1, h, w) of all positions; the last class is "no object".
        """
        height, width = level.shape[2:]
        logits = self.class_head(level)
        scores = rank_positions(logits.detach())
        best = scores.topk(min(self.num_queries, height * width), dim=1).indices  # (B, Q)
        every_image = level.shape[0], -1, -1  # len() would fix the batch of an exported network
        positions = take(position_grid(height, width).expand(every_image), best)
        content = take(level.flatten(2).transpose(1, 2), best)
        points = take(grid_points(height, width, level.device)[None].expand(every_image), best)
        return LocatedQueries(content, positions, points), logits


def rank_positions(logits: Tensor) -> Tensor:
    """Return the probability of the likeliest class at each position, plus 1 if the position is a local maximum.

    A local maximum is a position none of whose eight neighbours with the same likeliest class has a higher probability.

    Args:
        logits: (B, K + 1, h, w); the last class is "no object".

    Returns:
        (B, S).
    """
    probs, classes = logits.softmax(1)[:, :-1].max(1)  # (B, h, w)
    height, width = probs.shape[1:]
    padded_probs = F.pad(probs, [1, 1, 1, 1])
    padded_classes = F.pad(classes, [1, 1, 1, 1], value=-1)
    is_maximum = probs >= MIN_MAXIMUM
    for dy, dx in _NEIGHBOURS:
        window = (slice(None), slice(dy, dy + height), slice(dx, dx + width))
        is_maximum &= (probs >= padded_probs[window]) | (classes != padded_classes[window])
    return (probs + is_maximum).flatten(1)


def grid_points(height: int, width: int, device: torch.device) -> Tensor:
    """Return (x, y) of every position, (S, 2): as in the original, the first column is at 0 and the last at 1."""
    y, x = torch.meshgrid(
        torch.linspace(0, 1, height, device=device), torch.linspace(0, 1, width, device=device), indexing="ij"
    )
    return torch.stack([x, y], dim=-1).flatten(0, 1)
