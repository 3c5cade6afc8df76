"""PP-YOLOE's head: every position of the pyramid predicts classes, the distances of its box's sides, and a mask.

Shapes: B images, Q positions of all levels, K classes, R bins of a distribution, C_mask channels of the masks.
Source: PP-YOLOE, https://arxiv.org/abs/2203.16250, and https://github.com/PaddlePaddle/PaddleDetection/tree/666f597
(PPYOLOEInsHead); the code is our own and gives the same numbers.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...layers.boxes import xyxy_to_cxcywh
from ...layers.conv import ConvNorm
from ...layers.precision import full_precision
from ...structures import PositionPrediction, Pyramid

# Probability that every class begins with.
INITIAL_PROB = 0.01


class TaskAlignedHead(nn.Module):
    """Three branches for each level: classes, sides of boxes, and mask embeddings."""

    def __init__(self, *, level_dims: Sequence[int], num_classes: int, mask_dim: int, num_bins: int):
        """Build the head.

        Args:
            level_dims: channels of the levels, finest first.
            num_classes: number of classes `K`.
            mask_dim: channels of the masks `C_mask`.
            num_bins: number of bins `R` of the distribution of a side's distance.
        """
        super().__init__()
        self.class_stems, self.side_stems, self.mask_stems = (
            nn.ModuleList(GatedConv(dim) for dim in level_dims) for _ in range(3)
        )
        self.class_heads, self.side_heads, self.mask_heads = (
            nn.ModuleList(nn.Conv2d(dim, out_dim, 3, padding=1) for dim in level_dims)
            for out_dim in (num_classes, 4 * num_bins, mask_dim)
        )
        for class_head, side_head in zip(self.class_heads, self.side_heads, strict=True):
            nn.init.zeros_(class_head.weight)
            nn.init.constant_(class_head.bias, -math.log((1 - INITIAL_PROB) / INITIAL_PROB))
            nn.init.zeros_(side_head.weight)
            nn.init.ones_(side_head.bias)

    def forward(self, pyramid: Pyramid) -> PositionPrediction:
        """Predict at the positions of all levels, the finest first, row by row."""
        outputs = [self._predict_level(i, level) for i, level in enumerate(pyramid.levels)]
        class_logits, side_logits, embeddings = (torch.cat(parts, dim=1) for parts in zip(*outputs, strict=True))
        side_logits = side_logits.unflatten(2, (4, -1))
        points, cells = positions_of(pyramid.levels)
        return PositionPrediction(
            class_logits=class_logits,
            boxes_cxcywh=decode_boxes(side_logits, points, cells),
            mask_embeddings=embeddings,
            mask_features=pyramid.mask_features,
            query_points=points.expand(class_logits.shape[0], -1, -1),
            side_logits=side_logits,
            cells=cells,
        )

    def _predict_level(self, i: int, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return class logits, side logits and mask embeddings of a level's positions, (B, h * w, channels) each."""
        means = level.mean((2, 3), keepdim=True)
        maps = (
            self.class_heads[i](self.class_stems[i](level, means) + level),
            self.side_heads[i](self.side_stems[i](level, means)),
            self.mask_heads[i](self.mask_stems[i](level, means) + level),
        )
        return tuple(values.flatten(2).transpose(1, 2) for values in maps)


class GatedConv(nn.Module):
    """1x1 convolution of features whose channels are weighted by gates, which the means of the channels open.

    Source: the layer attention of TOOD, https://arxiv.org/abs/2108.07755, as PP-YOLOE simplifies it.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.gate = nn.Conv2d(dim, dim, 1)
        self.conv = ConvNorm(dim, dim, 1, activation=nn.SiLU)
        nn.init.normal_(self.gate.weight, std=0.001)

    def forward(self, x: Tensor, means: Tensor) -> Tensor:
        """Map (B, C, h, w) and the channels' means (B, C, 1, 1) to (B, C, h, w)."""
        return self.conv(x * self.gate(means).sigmoid())


def positions_of(levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the points of all positions, which are the centres of their cells, and the sizes of the cells.

    Args:
        levels: L tensors (B, C, h, w), each of which covers the whole input.

    Returns:
        points (Q, 2), (x, y), and cells (Q, 2), (width, height), as fractions of the network's input; in full
        precision.
    """
    points, cells = [], []
    for level in levels:
        height, width = level.shape[2:]
        options = {"device": level.device, "dtype": full_precision(level).dtype}
        y, x = ((torch.arange(side, **options) + 0.5) / side for side in (height, width))
        points.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1))
        cells.append(torch.tensor([1 / width, 1 / height], **options).expand(height * width, 2))
    return torch.cat(points), torch.cat(cells)


def decode_boxes(side_logits: Tensor, points: Tensor, cells: Tensor) -> Tensor:
    """Return the boxes (B, Q, 4), cxcywh, whose sides have the mean distances of their distributions.

    Args:
        side_logits: (B, Q, 4, R).
        points, cells: (Q, 2) each, see `positions_of`.

    Source: generalized focal loss, https://arxiv.org/abs/2006.04388
    """
    with torch.autocast(side_logits.device.type, enabled=False):
        probs = full_precision(side_logits).softmax(-1)
        bins = torch.arange(probs.shape[-1], device=probs.device, dtype=probs.dtype)
        near, far = (probs * bins).sum(-1).split(2, dim=-1)
        return xyxy_to_cxcywh(torch.cat([points - near * cells, points + far * cells], dim=-1))
