"""SOLOv2's mask features: the levels of a feature pyramid, enlarged to the finest one and added up.

Source: SOLOv2, https://arxiv.org/abs/2003.10152
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers.conv import init_normal_, norm_conv
from ...layers.position_encoding import place_channels
from ...structures import Pyramid
from .build import ENCODER_REGISTRY, check_levels


class EnlargedLevel(nn.Module):
    """3x3 convolutions, each before an enlargement by 2; the finest level has one convolution and no enlargement."""

    def __init__(self, in_channels: int, channels: int, num_enlargements: int, norm: str):
        super().__init__()
        self.num_enlargements = num_enlargements
        self.convs = nn.ModuleList(
            norm_conv(channels if i else in_channels, channels, 3, norm, activation=F.relu)
            for i in range(max(num_enlargements, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C, 2^n * h, 2^n * w)."""
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if i < self.num_enlargements:
                x = F.interpolate(x, scale_factor=2, mode="bilinear")
        return x


@ENCODER_REGISTRY.register()
class UnifiedMaskEncoder(nn.Module):
    """Adds mask features to the levels of a backbone with a feature pyramid; the coarsest level is not part of them.

    The coarsest of the other levels knows its places: two more channels hold their x and y.
    """

    @configurable
    def __init__(
        self, *, input_shape: dict[str, ShapeSpec], in_features: list[str], hidden_dim: int, mask_dim: int, norm: str
    ):
        """Build the encoder.

        Args:
            input_shape: shapes of the backbone's outputs, which have one width.
            in_features: names of the levels, finest first, each half as large as the one before it.
            hidden_dim: channels of the convolutions.
            mask_dim: channels of the mask features.
            norm: Detectron2's name of the norm after each convolution.

        Raises:
            ValueError: the backbone lacks a needed level, or there are fewer than three.
        """
        super().__init__()
        self.in_features = list(in_features)
        check_levels(input_shape, self.in_features)
        if len(self.in_features) < 3:
            raise ValueError(f"MODEL.ENCODER.IN_FEATURES must be three levels or more, got {self.in_features}.")
        channels = [input_shape[name].channels for name in self.in_features[:-1]]
        channels[-1] += 2
        self.levels = nn.ModuleList(EnlargedLevel(width, hidden_dim, i, norm) for i, width in enumerate(channels))
        self.fusion = norm_conv(hidden_dim, mask_dim, 1, norm, activation=F.relu)
        init_normal_(self)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.ENCODER.* and MODEL.MASK_HEAD.DIM."""
        return {
            "input_shape": input_shape,
            "in_features": cfg.MODEL.ENCODER.IN_FEATURES,
            "hidden_dim": cfg.MODEL.ENCODER.HIDDEN_DIM,
            "mask_dim": cfg.MODEL.MASK_HEAD.DIM,
            "norm": cfg.MODEL.ENCODER.NORM,
        }

    def forward(self, features: dict[str, Tensor]) -> Pyramid:
        """Return the backbone's levels as they are, and mask features of the size of the finest one."""
        levels = [features[name] for name in self.in_features]
        *finer, coarsest = levels[:-1]
        sources = [*finer, torch.cat([coarsest, place_channels(coarsest)], dim=1)]
        enlarged = [enlarge(source) for enlarge, source in zip(self.levels, sources, strict=True)]
        return Pyramid(levels, self.fusion(sum(enlarged[1:], enlarged[0])))
