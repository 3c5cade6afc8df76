"""Deformable encoder: every position of every level attends to a few sampling points on all levels.

Shapes: B images, S positions of all levels together, L levels, C channels.
Source: Deformable DETR, https://arxiv.org/abs/2010.04159, in the form of Mask DINO, https://arxiv.org/abs/2206.02777
and https://github.com/IDEA-Research/MaskDINO/tree/3831d85.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn

from ...layers.conv import norm_conv
from ...layers.deformable_attention import DeformableAttention, init_deformable_layers
from ...layers.point_sampling import cell_centres
from ...layers.position_encoding import grid_position_encoding
from ...layers.precision import full_precision
from ...layers.tokens import TokenLinear
from ...structures import Memory, Pyramid
from .build import ENCODER_REGISTRY, check_heads, check_levels, mask_source_of


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward part, each followed by a residual sum and layer norm."""

    def __init__(self, attention: DeformableAttention, dim: int, feedforward_dim: int, dropout: float):
        super().__init__()
        self.self_attn = attention
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = TokenLinear(dim, feedforward_dim)
        self.linear2 = TokenLinear(feedforward_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor, boxes: Tensor, level_sizes: list[tuple[int, int]]) -> Tensor:
        """Apply the layer to tokens (B, S, C), position embeddings (S, C) and boxes (1, S, L, 4); return (B, S, C)."""
        attended = self.self_attn(tokens + positions, boxes, tokens, level_sizes)
        tokens = self.norm1(tokens + self.dropout(attended))
        hidden = self.dropout(F.relu(self.linear1(tokens)))
        return self.norm2(tokens + self.dropout(self.linear2(hidden)))


class LateralFusion(nn.Module):
    """Makes mask features: adds a projected backbone level and the upsampled finest pyramid level, and smooths them."""

    def __init__(self, in_channels: int, dim: int, norm: str):
        super().__init__()
        self.lateral = norm_conv(in_channels, dim, 1, norm)
        self.output = norm_conv(dim, dim, 3, norm, activation=F.relu)

    def forward(self, fine: Tensor, levels: list[Tensor]) -> Tensor:
        """Fuse a backbone level (B, C_in, h, w) with the first level of the pyramid; return (B, C, h, w)."""
        enlarged = F.interpolate(levels[0], size=fine.shape[2:], mode="bilinear")
        return self.output(self.lateral(fine) + enlarged)


@ENCODER_REGISTRY.register()
class DeformableEncoder(nn.Module):
    """Deformable encoder with mask features at a finer stride.  It always computes in full precision."""

    @configurable
    def __init__(
        self, *, input_shape: dict[str, ShapeSpec], in_features: list[str], num_extra_levels: int, hidden_dim: int,
        norm: str, num_layers: int, num_heads: int, num_points: int, feedforward_dim: int, dropout: float,
        mask_source: str,
    ):  # fmt: skip
        """Build the encoder.

        Args:
            input_shape: shapes of the backbone's outputs.
            in_features: names of the levels, finest first.
            num_extra_levels: number of coarser levels after those, each half as large as the one before it.
            hidden_dim: channels of every level.
            norm: Detectron2's name of the norm after each convolution.
            num_layers: number of layers of deformable attention.
            num_heads: attention heads.
            num_points: sampling points for each head and level.
            feedforward_dim: width of the feed-forward parts.
            dropout: dropout probability.
            mask_source: name of the backbone level with the mask features' stride.

        Raises:
            ValueError: the backbone lacks a level, the heads do not divide the width, or `num_extra_levels` is
                negative.
        """
        super().__init__()
        self.in_features, self.mask_source = list(in_features), mask_source
        check_levels(input_shape, [*self.in_features, mask_source])
        check_heads(hidden_dim, num_heads)
        if num_extra_levels < 0:
            raise ValueError(f"MODEL.ENCODER.NUM_EXTRA_LEVELS must be at least 0, got {num_extra_levels}.")
        channels = [input_shape[name].channels for name in self.in_features]
        self.input_projections = nn.ModuleList(_projection(width, hidden_dim, norm) for width in channels)
        self.extra_projections = nn.ModuleList(
            _projection(channels[-1] if i == 0 else hidden_dim, hidden_dim, norm, halves=True)
            for i in range(num_extra_levels)
        )
        num_levels = len(channels) + num_extra_levels
        self.level_embedding = nn.Parameter(torch.randn(num_levels, hidden_dim))
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                DeformableAttention(hidden_dim, num_heads, num_levels, num_points), hidden_dim, feedforward_dim, dropout
            )
            for _ in range(num_layers)
        )
        init_deformable_layers(self.layers)
        self.num_points = num_points
        self.mask_fusion = LateralFusion(input_shape[mask_source].channels, hidden_dim, norm)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.ENCODER.* and MODEL.MASK_HEAD.STRIDE."""
        encoder = cfg.MODEL.ENCODER
        return {
            "input_shape": input_shape,
            "in_features": encoder.IN_FEATURES,
            "num_extra_levels": encoder.NUM_EXTRA_LEVELS,
            "hidden_dim": encoder.HIDDEN_DIM,
            "norm": encoder.NORM,
            "num_layers": encoder.NUM_LAYERS,
            "num_heads": encoder.NUM_HEADS,
            "num_points": encoder.NUM_POINTS,
            "feedforward_dim": encoder.FEEDFORWARD_DIM,
            "dropout": encoder.DROPOUT,
            "mask_source": mask_source_of(cfg),
        }

    def forward(self, features: dict[str, Tensor], with_masks: bool = True) -> Pyramid:
        """Make the levels (B, C, H / stride, W / stride), finest first, and, if `with_masks`, the mask features."""
        with torch.autocast(next(iter(features.values())).device.type, enabled=False):
            features = {name: full_precision(feature) for name, feature in features.items()}
            levels = self._attend(Memory.of_levels(self._project(features)))
            return Pyramid(levels, self.mask_fusion(features[self.mask_source], levels) if with_masks else None)

    def _project(self, features: dict[str, Tensor]) -> list[Tensor]:
        levels = [project(features[name]) for project, name in zip(self.input_projections, self.in_features)]
        coarsest = features[self.in_features[-1]]
        for project in self.extra_projections:
            coarsest = project(coarsest)
            levels.append(coarsest)
        return levels

    def _attend(self, memory: Memory) -> list[Tensor]:
        tokens, sizes = memory.tokens, memory.level_sizes
        options = (tokens.device, tokens.dtype)
        positions = torch.cat(
            [
                grid_position_encoding(*size, tokens.shape[2], *options) + embedding
                for size, embedding in zip(sizes, self.level_embedding)
            ]
        )  # (S, C)
        boxes = _reference_boxes(tuple(sizes), self.num_points, *options)
        for layer in self.layers:
            tokens = layer(tokens, positions, boxes, sizes)
        parts = tokens.transpose(1, 2).split([height * width for height, width in sizes], dim=2)
        return [part.unflatten(2, size) for part, size in zip(parts, sizes)]


def _projection(in_channels: int, out_channels: int, norm: str, halves: bool = False) -> Conv2d:
    """Build a 1x1 convolution, or a 3x3 one with stride 2 if `halves`, with bias and norm."""
    kernel_size, stride = (3, 2) if halves else (1, 1)
    conv = Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, norm=get_norm(norm, out_channels)
    )
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


@lru_cache(maxsize=32)
def _reference_boxes(
    level_sizes: tuple[tuple[int, int], ...], num_points: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return boxes (1, S, L, 4), cxcywh, around each position, of such size that a sampling offset of 1 is one cell.

    The result is cached.
    """
    # A tensor made in inference mode could not take part in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        centres = torch.cat([cell_centres(*size, torch.float64) for size in level_sizes])  # (S, 2)
        cells = torch.tensor([(1 / width, 1 / height) for height, width in level_sizes], dtype=torch.float64)
        centres = centres[:, None].expand(-1, len(cells), -1)
        sizes = (2 * num_points * cells).expand(len(centres), -1, -1)  # (S, L, 2)
        return torch.cat([centres, sizes], dim=-1)[None].to(device, dtype)
