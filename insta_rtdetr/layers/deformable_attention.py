"""Multi-scale deformable attention in plain PyTorch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tokens import TokenLinear


class DeformableAttention(nn.Module):
    """Deformable attention, in which each query reads a few points of every level around its reference box.

    Shapes: B images, Q queries, S positions of all levels together, M heads, L levels, P points, C channels.

    Source: Deformable DETR, https://arxiv.org/abs/2010.04159
    """

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"width {dim} is not a multiple of {num_heads} heads. Change MODEL.DECODER.NUM_HEADS.")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        num_samples = num_heads * num_levels * num_points
        self.sampling_offsets = TokenLinear(dim, num_samples * 2)
        self.attention_weights = TokenLinear(dim, num_samples)
        self.value_proj = TokenLinear(dim, dim)
        self.output_proj = TokenLinear(dim, dim)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the weights; at the start head m looks in direction m, and point p looks p steps away."""
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)
        offsets = direction[:, None, None] * steps[:, None].expand(self.num_levels, -1, 1)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self, query: Tensor, reference_boxes: Tensor, memory: Tensor, level_sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Compute deformable attention.

        Args:
            query: (B, Q, C).
            reference_boxes: (B, Q, 4), cxcywh in [0, 1], or (B, Q, L, 4) with a box for each level; B may be 1.
            memory: (B, S, C), the flattened levels one after the other.
            level_sizes: (height, width) of each level.

        Returns:
            (B, Q, C).
        """
        batch, num_queries, _ = query.shape
        shape = (batch, num_queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*shape, 2)
        weights = self.attention_weights(query).view(*shape[:3], -1).softmax(-1)
        if reference_boxes.dim() == 3:
            reference_boxes = reference_boxes[:, :, None]
        centre, size = reference_boxes[:, :, None, :, None].split(2, dim=-1)  # (B, Q, 1, L or 1, 1, 2)
        # An offset of `num_points` reaches the border of the box.
        locations = centre + offsets * size * (0.5 / self.num_points)
        sampled = sample_levels(self.value_proj(memory), locations, weights, level_sizes)
        return self.output_proj(sampled)


def init_deformable_layers(layers: nn.Module) -> None:
    """Draw every matrix of some layers as DETR does (Xavier), but for those that choose where attention looks."""
    for parameter in layers.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for module in layers.modules():
        if isinstance(module, DeformableAttention):
            module.init_weights()


def sample_levels(value: Tensor, locations: Tensor, weights: Tensor, level_sizes: list[tuple[int, int]]) -> Tensor:
    """Compute the weighted sum of bilinear samples; a sample outside its level is 0.

    Args:
        value: (B, S, C), where C consists of M heads, one after the other.
        locations: (B, Q, M, L, P, 2), (x, y) in [0, 1].
        weights: (B, Q, M, L * P).
        level_sizes: (height, width) of each level.

    Returns:
        (B, Q, C).
    """
    batch, num_queries, num_heads = locations.shape[:3]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # (L, B * M, Q, P, 2)
    samples = []
    for level, grid, (height, width) in zip(
        value.split([h * w for h, w in level_sizes], dim=1), grids, level_sizes, strict=True
    ):
        maps = level.transpose(1, 2).reshape(batch * num_heads, -1, height, width)
        samples.append(F.grid_sample(maps, grid, align_corners=False))  # (B * M, C / M, Q, P)
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # (B * M, 1, Q, L * P)
    summed = (torch.cat(samples, dim=-1) * weights).sum(-1)  # (B * M, C / M, Q)
    return summed.view(batch, -1, num_queries).transpose(1, 2)
