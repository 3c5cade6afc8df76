"""PPM-FPN: a pyramid pooling module (PPM) on the coarsest level, then a feature pyramid network (FPN).

Source: FastInst, https://arxiv.org/abs/2303.08594; PPM: PSPNet, https://arxiv.org/abs/1612.01105; FPN:
https://arxiv.org/abs/1612.03144.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers.conv import norm_conv
from ...structures import Pyramid
from .build import ENCODER_REGISTRY, check_levels

# Sides, in cells, of the grids that the coarsest level is average-pooled to.
POOL_SIDES = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """Concatenates a map with its averages over coarse grids, of a quarter of its channels each, and fuses them."""

    def __init__(self, dim: int):
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(dim, dim // 4, 1) for _ in POOL_SIDES)
        self.fusion = nn.Conv2d(dim + len(POOL_SIDES) * (dim // 4), dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module: (B, C, h, w) -> (B, C, h, w)."""
        pooled = [
            F.relu(project(F.adaptive_avg_pool2d(x, side)))
            for project, side in zip(self.projections, POOL_SIDES, strict=True)
        ]
        enlarged = [F.interpolate(cells, size=x.shape[2:], mode="bilinear") for cells in pooled]
        return F.relu(self.fusion(torch.cat([*enlarged, x], dim=1)))


@ENCODER_REGISTRY.register()
class PPMFPNEncoder(nn.Module):
    """FastInst's encoder, whose finest level is also the mask features."""

    @configurable
    def __init__(self, *, input_shape: dict[str, ShapeSpec], in_features: list[str], hidden_dim: int, norm: str):
        """Build the encoder.

        Args:
            input_shape: shapes of the backbone's outputs.
            in_features: names of the levels, finest first.
            hidden_dim: channels of every level.
            norm: Detectron2's name of the norm after each convolution of the pyramid.

        Raises:
            ValueError: the backbone lacks a needed level.
        """
        super().__init__()
        self.in_features = list(in_features)
        check_levels(input_shape, self.in_features)
        self.lateral_convs = nn.ModuleList(
            norm_conv(input_shape[name].channels, hidden_dim, 1, norm) for name in self.in_features
        )
        self.pooling = PyramidPooling(hidden_dim)
        self.output_convs = nn.ModuleList(
            norm_conv(hidden_dim, hidden_dim, 3, norm, activation=F.relu) for _ in self.in_features
        )

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.ENCODER.*."""
        encoder = cfg.MODEL.ENCODER
        return {
            "input_shape": input_shape,
            "in_features": encoder.IN_FEATURES,
            "hidden_dim": encoder.HIDDEN_DIM,
            "norm": encoder.NORM,
        }

    def forward(self, features: dict[str, Tensor]) -> Pyramid:
        """Make the levels (B, C, H / stride, W / stride), finest first."""
        *finer, coarsest = [
            project(features[name]) for project, name in zip(self.lateral_convs, self.in_features, strict=True)
        ]
        levels = [self.output_convs[-1](self.pooling(coarsest))]
        for lateral, smooth in zip(finer[::-1], self.output_convs[-2::-1], strict=True):
            enlarged = F.interpolate(levels[0], size=lateral.shape[2:], mode="bilinear")
            levels.insert(0, smooth(lateral + enlarged))
        return Pyramid(levels, levels[0])
