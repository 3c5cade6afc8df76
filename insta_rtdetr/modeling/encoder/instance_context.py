"""SparseInst's encoder: pyramid pooling, a feature pyramid, and all of its levels fused into one.

Source: SparseInst, https://arxiv.org/abs/2203.12827
"""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers.conv import norm_conv
from ...structures import Pyramid
from .build import ENCODER_REGISTRY, check_levels
from .ppm_fpn import PyramidPooling


@ENCODER_REGISTRY.register()
class InstanceContextEncoder(nn.Module):
    """A feature pyramid above pyramid pooling, whose levels are enlarged to the finest one and fused by a convolution.

    Unlike in `PPMFPNEncoder`, the sums that go down the pyramid are those before the 3x3 convolutions.
    """

    @configurable
    def __init__(self, *, input_shape: dict[str, ShapeSpec], in_features: list[str], hidden_dim: int):
        """Build.

        Args:
            input_shape: what the backbone gives.
            in_features: names of the levels, finest first.
            hidden_dim: channels of every level, and of the result.

        Raises:
            ValueError: the backbone lacks a needed level.
        """
        super().__init__()
        self.in_features = list(in_features)
        check_levels(input_shape, self.in_features)
        self.lateral_convs = nn.ModuleList(
            norm_conv(input_shape[name].channels, hidden_dim, 1, norm="") for name in self.in_features
        )
        self.pooling = PyramidPooling(hidden_dim)
        self.output_convs = nn.ModuleList(norm_conv(hidden_dim, hidden_dim, 3, norm="") for _ in self.in_features)
        self.fusion = nn.Conv2d(len(self.in_features) * hidden_dim, hidden_dim, 1)
        weight_init.c2_msra_fill(self.fusion)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.ENCODER.*."""
        return {
            "input_shape": input_shape,
            "in_features": cfg.MODEL.ENCODER.IN_FEATURES,
            "hidden_dim": cfg.MODEL.ENCODER.HIDDEN_DIM,
        }

    def forward(self, features: dict[str, Tensor]) -> Pyramid:
        """Make one level (B, C, H / stride, W / stride), from which masks are predicted as well."""
        *finer, coarsest = [
            project(features[name]) for project, name in zip(self.lateral_convs, self.in_features, strict=True)
        ]
        sums = [self.pooling(coarsest)]
        for lateral in finer[::-1]:
            sums.insert(0, lateral + F.interpolate(sums[0], size=lateral.shape[2:], mode="nearest"))
        levels = [smooth(level) for smooth, level in zip(self.output_convs, sums, strict=True)]
        enlarged = [F.interpolate(level, size=levels[0].shape[2:], mode="bilinear") for level in levels[1:]]
        fused = self.fusion(torch.cat([levels[0], *enlarged], dim=1))
        return Pyramid([fused], fused)
