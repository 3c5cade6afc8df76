"""Projector that fuses features of several depths of a plain vision transformer, all of one stride, into one level.

Source: LW-DETR, https://arxiv.org/abs/2406.03459, and RF-DETR, https://arxiv.org/abs/2511.09554
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from ...structures import Pyramid
from .build import ENCODER_REGISTRY, check_levels


@ENCODER_REGISTRY.register()
class C2fProjector(nn.Module):
    """C2f block: a 1x1 convolution gives two halves, and a chain of 3x3 convolutions starts from the second.

    Both halves and every result of the chain are concatenated and projected.
    """

    @configurable
    def __init__(self, *, input_shape: dict[str, ShapeSpec], in_features: list[str], hidden_dim: int, num_blocks: int):
        """Build the encoder.

        Args:
            input_shape: shapes of the backbone's outputs, which share a stride.
            in_features: names of the outputs that are fused.
            hidden_dim: channels of the resulting level.
            num_blocks: number of pairs of 3x3 convolutions in the chain.

        Raises:
            ValueError: the backbone lacks a needed output.
        """
        super().__init__()
        self.in_features = list(in_features)
        check_levels(input_shape, self.in_features)
        half = hidden_dim // 2
        self.input_conv = _conv(sum(input_shape[name].channels for name in self.in_features), 2 * half, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv(half, half, 3), _conv(half, half, 3)) for _ in range(num_blocks)
        )
        self.output_conv = _conv((2 + num_blocks) * half, hidden_dim, 1)
        self.norm = LayerNorm2d(hidden_dim)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.ENCODER.*."""
        encoder = cfg.MODEL.ENCODER
        return {
            "input_shape": input_shape,
            "in_features": encoder.IN_FEATURES,
            "hidden_dim": encoder.HIDDEN_DIM,
            "num_blocks": encoder.NUM_FUSION_BLOCKS,
        }

    def forward(self, features: dict[str, Tensor]) -> Pyramid:
        """Fuse the backbone features into one level (B, C, H / stride, W / stride), which is also the mask features."""
        joined = torch.cat([features[name] for name in self.in_features], dim=1)
        parts = list(self.input_conv(joined).chunk(2, dim=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        level = self.norm(self.output_conv(torch.cat(parts, dim=1)))
        return Pyramid([level], level)


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> Conv2d:
    return Conv2d(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False, norm=LayerNorm2d(out_channels),
        activation=F.silu,
    )  # fmt: skip
