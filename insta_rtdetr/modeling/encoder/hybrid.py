"""Hybrid encoder: attention within one level (AIFI) and convolutions between the levels (CCFF).

Source: RT-DETR, https://arxiv.org/abs/2304.08069.  The mask features are those of Insta-RT-DETR or of Mask-RT-DETR,
https://github.com/PaddlePaddle/PaddleDetection/tree/666f597.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers.conv import ConvNorm, CSPRepBlock
from ...structures import Pyramid
from .aifi import AIFI
from .build import ENCODER_REGISTRY, check_levels, mask_source_of
from .mask_fusion import MaskFusion
from .mask_pyramid import MaskPyramid


@ENCODER_REGISTRY.register()
class HybridEncoder(nn.Module):
    """RT-DETR's hybrid encoder with Insta-RT-DETR's mask features at a finer stride."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        in_features: list[str],
        hidden_dim: int,
        aifi: AIFI,
        aifi_feature: str,
        num_fusion_blocks: int,
        expansion: float,
        mask_source: str,
        mask_fusion: nn.Module,
    ):
        """Build the encoder.

        Args:
            input_shape: shapes of the backbone's outputs.
            in_features: names of the levels, finest first.
            hidden_dim: channels of every level.
            aifi: self-attention for one level.
            aifi_feature: name of that level; empty for the coarsest.
            num_fusion_blocks: number of RepVGG blocks in each fusion block.
            expansion: width of those blocks as a fraction of `hidden_dim`.
            mask_source: name of the backbone level with the mask features' stride.
            mask_fusion: module that is called with that level and the pyramid and returns the mask features.

        Raises:
            ValueError: `aifi_feature` is not among `in_features`, or `expansion` leaves the blocks no channel.
        """
        super().__init__()
        if not expansion * hidden_dim >= 1:
            raise ValueError(f"MODEL.ENCODER.EXPANSION leaves no channel of {hidden_dim}, got {expansion}.")
        if aifi_feature and aifi_feature not in in_features:
            raise ValueError(f"MODEL.ENCODER.AIFI_FEATURE must be among {in_features} or empty, got {aifi_feature!r}.")
        self.in_features, self.mask_source = list(in_features), mask_source
        self.aifi_level = self.in_features.index(aifi_feature or self.in_features[-1])
        self.input_projections = nn.ModuleList(
            ConvNorm(input_shape[name].channels, hidden_dim, 1) for name in self.in_features
        )
        self.aifi = aifi
        num_steps = len(self.in_features) - 1
        block = (2 * hidden_dim, hidden_dim, num_fusion_blocks, expansion, nn.SiLU)
        self.lateral_convs = nn.ModuleList(
            ConvNorm(hidden_dim, hidden_dim, 1, activation=nn.SiLU) for _ in range(num_steps)
        )
        self.top_down_blocks = nn.ModuleList(CSPRepBlock(*block) for _ in range(num_steps))
        self.downsample_convs = nn.ModuleList(
            ConvNorm(hidden_dim, hidden_dim, 3, stride=2, activation=nn.SiLU) for _ in range(num_steps)
        )
        self.bottom_up_blocks = nn.ModuleList(CSPRepBlock(*block) for _ in range(num_steps))
        self.mask_fusion = mask_fusion

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.ENCODER.* and MODEL.MASK_HEAD.*.

        Raises:
            ValueError: the backbone lacks a needed level, or `MASK_SOURCE` does not have the mask stride.
        """
        encoder, mask_source = cfg.MODEL.ENCODER, mask_source_of(cfg)
        check_levels(input_shape, [*encoder.IN_FEATURES, mask_source])
        aifi = AIFI(
            dim=encoder.HIDDEN_DIM,
            num_layers=encoder.NUM_LAYERS,
            num_heads=encoder.NUM_HEADS,
            feedforward_dim=encoder.FEEDFORWARD_DIM,
            dropout=encoder.DROPOUT,
            temperature=encoder.POSITION_TEMPERATURE,
            position_order=encoder.POSITION_ORDER,
        )
        return {
            "input_shape": input_shape,
            "in_features": encoder.IN_FEATURES,
            "hidden_dim": encoder.HIDDEN_DIM,
            "aifi": aifi,
            "aifi_feature": encoder.AIFI_FEATURE,
            "num_fusion_blocks": encoder.NUM_FUSION_BLOCKS,
            "expansion": encoder.EXPANSION,
            "mask_source": mask_source,
            "mask_fusion": cls.build_mask_fusion(cfg, input_shape[mask_source].channels),
        }

    @classmethod
    def build_mask_fusion(cls, cfg, in_channels: int) -> nn.Module:
        """Build the module that makes mask features from a backbone level of `in_channels` and the pyramid."""
        return MaskFusion(in_channels, cfg.MODEL.ENCODER.HIDDEN_DIM, cfg.MODEL.MASK_HEAD.DIM, nn.SiLU)

    def forward(self, features: dict[str, Tensor], with_masks: bool = True) -> Pyramid:
        """Make the levels (B, C, H / stride, W / stride), finest first, and, if `with_masks`, the mask features."""
        levels = [
            project(features[name]) for project, name in zip(self.input_projections, self.in_features, strict=True)
        ]
        levels[self.aifi_level] = self.aifi(levels[self.aifi_level])
        levels = self._bottom_up(self._top_down(levels))
        return Pyramid(levels, self.mask_fusion(features[self.mask_source], levels) if with_masks else None)

    def _top_down(self, levels: list[Tensor]) -> list[Tensor]:
        fused = [levels[-1]]
        for finer, lateral, block in zip(levels[-2::-1], self.lateral_convs, self.top_down_blocks, strict=True):
            fused[0] = lateral(fused[0])
            enlarged = F.interpolate(fused[0], size=finer.shape[2:], mode="nearest")
            fused.insert(0, block(torch.cat([enlarged, finer], dim=1)))
        return fused

    def _bottom_up(self, levels: list[Tensor]) -> list[Tensor]:
        fused = [levels[0]]
        for coarser, downsample, block in zip(levels[1:], self.downsample_convs, self.bottom_up_blocks, strict=True):
            fused.append(block(torch.cat([downsample(fused[-1]), coarser], dim=1)))
        return fused


@ENCODER_REGISTRY.register()
class MaskHybridEncoder(HybridEncoder):
    """Hybrid encoder with Mask-RT-DETR's mask features, which are made from all levels of the pyramid."""

    @classmethod
    def build_mask_fusion(cls, cfg, in_channels: int) -> nn.Module:
        """Build the module that makes mask features from a backbone level of `in_channels` and the pyramid."""
        encoder, mask_head = cfg.MODEL.ENCODER, cfg.MODEL.MASK_HEAD
        num_levels = len(encoder.IN_FEATURES)
        return MaskPyramid(in_channels, encoder.HIDDEN_DIM, num_levels, mask_head.PYRAMID_DIM, mask_head.FEATURE_DIM)
