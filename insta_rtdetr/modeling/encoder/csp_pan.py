"""PP-YOLOE's pyramid: features go down from the coarsest level and up again, through cross-stage partial blocks.

Source: PP-YOLOE, https://arxiv.org/abs/2203.16250, and https://github.com/PaddlePaddle/PaddleDetection/tree/666f597
(CustomCSPPAN, and the mask prototypes of its head); the code is our own and gives the same numbers.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers.conv import ConvNorm
from ...layers.csp_rep import CSPConcatBlock, RepResidualBlock
from ...structures import Pyramid
from .build import ENCODER_REGISTRY, check_levels

# Sides in cells of the windows of spatial pyramid pooling.
POOLING_WINDOWS = (5, 9, 13)


@ENCODER_REGISTRY.register()
class CSPPANEncoder(nn.Module):
    """Path aggregation network; each level has twice the channels of the next finer one."""

    @configurable
    def __init__(
        self, *, input_shape: dict[str, ShapeSpec], in_features: list[str], hidden_dim: int, num_blocks: int,
        prototypes: nn.Module,
    ):  # fmt: skip
        """Build the encoder.

        Args:
            input_shape: shapes of the backbone's outputs.
            in_features: names of the levels, finest first.
            hidden_dim: channels of the finest level.
            num_blocks: number of residual blocks of each cross-stage partial block.
            prototypes: module that makes mask features from the finest level.

        Raises:
            ValueError: the backbone lacks a needed level.
        """
        super().__init__()
        self.in_features = list(in_features)
        check_levels(input_shape, self.in_features)
        self.level_dims = dims = [hidden_dim * 2**i for i in range(len(self.in_features))]
        inputs = [input_shape[name].channels for name in self.in_features]
        # Modules between two levels are counted by the finer one.
        self.lateral_convs = nn.ModuleList(ConvNorm(dim, dim // 2, 1, activation=nn.SiLU) for dim in dims[1:])
        self.top_down_blocks = nn.ModuleList(
            _fusion_block(in_dim + dim, dim, num_blocks) for in_dim, dim in zip(inputs[:-1], dims[:-1], strict=True)
        )
        self.coarsest_block = _fusion_block(inputs[-1], dims[-1], num_blocks, with_pooling=True)
        self.downsample_convs = nn.ModuleList(
            ConvNorm(dim, dim, 3, stride=2, activation=nn.SiLU) for dim in dims[:-1]
        )
        self.bottom_up_blocks = nn.ModuleList(
            _fusion_block(finer + dim, dim, num_blocks) for finer, dim in zip(dims[:-1], dims[1:], strict=True)
        )
        self.prototypes = prototypes

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.ENCODER.{IN_FEATURES, HIDDEN_DIM, NUM_FUSION_BLOCKS} and MODEL.MASK_HEAD.{FEATURE_DIM, DIM}."""
        encoder, mask_head = cfg.MODEL.ENCODER, cfg.MODEL.MASK_HEAD
        return {
            "input_shape": input_shape,
            "in_features": encoder.IN_FEATURES,
            "hidden_dim": encoder.HIDDEN_DIM,
            "num_blocks": encoder.NUM_FUSION_BLOCKS,
            "prototypes": mask_prototypes(encoder.HIDDEN_DIM, mask_head.FEATURE_DIM, mask_head.DIM),
        }

    def forward(self, features: dict[str, Tensor]) -> Pyramid:
        """Make the levels (B, C, H / stride, W / stride), finest first, and mask features of half the finest stride."""
        *finer, coarsest = (features[name] for name in self.in_features)
        levels = [self.coarsest_block(coarsest)]
        for level, lateral, block in zip(
            finer[::-1], reversed(self.lateral_convs), reversed(self.top_down_blocks), strict=True
        ):
            enlarged = F.interpolate(lateral(levels[0]), size=level.shape[2:], mode="nearest")
            levels.insert(0, block(torch.cat([enlarged, level], dim=1)))
        for i, (downsample, block) in enumerate(zip(self.downsample_convs, self.bottom_up_blocks, strict=True)):
            levels[i + 1] = block(torch.cat([downsample(levels[i]), levels[i + 1]], dim=1))
        return Pyramid(levels, self.prototypes(levels[0]))


class SpatialPyramidPooling(nn.Module):
    """Maxima of windows of several sizes around each position, joined by a 1x1 convolution.

    Source: SPPNet, https://arxiv.org/abs/1406.4729, in the form of YOLOv4.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ConvNorm((1 + len(POOLING_WINDOWS)) * channels, channels, 1, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        pooled = [F.max_pool2d(x, side, stride=1, padding=side // 2) for side in POOLING_WINDOWS]
        return self.conv(torch.cat([x, *pooled], dim=1))


def _fusion_block(in_channels: int, out_channels: int, num_blocks: int, with_pooling: bool = False) -> CSPConcatBlock:
    """Build a block that keeps the size; pooling follows the middle one of its residual blocks."""
    hidden = out_channels // 2
    blocks: list[nn.Module] = [RepResidualBlock(hidden, has_shortcut=False) for _ in range(num_blocks)]
    if with_pooling:
        blocks.insert((num_blocks - 1) // 2 + 1, SpatialPyramidPooling(hidden))
    return CSPConcatBlock(in_channels, hidden, out_channels, nn.Sequential(*blocks))


def mask_prototypes(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    """Build the convolutions that make mask features: (B, C_in, h, w) -> (B, C_mask, 2 h, 2 w).

    Source: YOLACT, https://arxiv.org/abs/1904.02689
    """
    return nn.Sequential(
        ConvNorm(in_channels, hidden, 3, activation=nn.SiLU),
        nn.ConvTranspose2d(hidden, hidden, 2, stride=2),
        ConvNorm(hidden, hidden, 3, activation=nn.SiLU),
        ConvNorm(hidden, out_channels, 1, activation=nn.SiLU),
    )
