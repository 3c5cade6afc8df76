"""SOLOv2's head: each cell of a grid over the image is a query for the object whose centre lies in it.

Shapes: B images, C channels, S cells along each side of a grid, Q cells of all grids together, K classes.
Source: SOLOv2, https://arxiv.org/abs/2003.10152
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.conv import init_normal_, norm_conv
from ...layers.position_encoding import place_channels
from ...structures import Memory, Prediction, Pyramid
from .query_selection import init_class_head


class GridHead(nn.Module):
    """Predicts the class and the mask embedding of every cell, from one level of the pyramid for each grid."""

    def __init__(
        self, *, in_channels: int, hidden_dim: int, num_convs: int, grid_sides: tuple[int, ...], num_classes: int,
        mask_dim: int, norm: str = "GN",
    ):  # fmt: skip
        """Build the head, whose weights all grids share.

        Args:
            in_channels: channels of every level.
            hidden_dim: channels of the convolutions.
            num_convs: number of 3x3 convolutions before the classes, and before the mask embeddings.
            grid_sides: `S` of each level, finest first.
            num_classes: `K`.
            mask_dim: channels of a mask embedding.
            norm: Detectron2's name of the norm after each convolution.
        """
        super().__init__()
        self.grid_sides = tuple(grid_sides)
        # Two more channels for the place.
        self.embedding_convs = _convs(in_channels + 2, hidden_dim, num_convs, norm)
        self.class_convs = _convs(in_channels, hidden_dim, num_convs, norm)
        self.mask_embedding = nn.Conv2d(hidden_dim, mask_dim, 3, padding=1)
        self.class_head = nn.Conv2d(hidden_dim, num_classes, 3, padding=1)
        init_normal_(self)
        init_class_head(self.class_head)

    def forward(self, pyramid: Pyramid) -> Prediction:
        """Predict class logits (B, Q, K) and mask embeddings (B, Q, C_mask), grid by grid and row by row."""
        class_logits, embeddings = [], []
        for level, side in zip(_medium_levels(pyramid.levels), self.grid_sides, strict=True):
            located = torch.cat([level, place_channels(level)], dim=1)
            cells = F.interpolate(located, size=(side, side), mode="bilinear")  # (B, C + 2, S, S)
            embeddings.append(self.mask_embedding(self.embedding_convs(cells)))
            class_logits.append(self.class_head(self.class_convs(cells[:, :-2])))
        return Prediction(
            Memory.of_levels(class_logits).tokens,
            mask_embeddings=Memory.of_levels(embeddings).tokens,
            mask_features=pyramid.mask_features,
        )


def medium_strides(strides: list[int]) -> list[int]:
    """Return the strides in pixels of the levels that the grids are read from, from those of the pyramid."""
    return [strides[1], *strides[1:-1], strides[-2]]


def _medium_levels(levels: list[Tensor]) -> list[Tensor]:
    """Resize the finest level to the size of the second, and the coarsest to the size of the one before it."""
    first, last = (
        F.interpolate(level, size=like.shape[2:], mode="bilinear")
        for level, like in ((levels[0], levels[1]), (levels[-1], levels[-2]))
    )
    return [first, *levels[1:-1], last]


def _convs(in_channels: int, channels: int, num_convs: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        *(norm_conv(channels if i else in_channels, channels, 3, norm, F.relu) for i in range(num_convs))
    )
