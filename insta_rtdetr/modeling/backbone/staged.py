"""Backbones of a stem and four stages, of which some give features."""

from collections.abc import Sequence

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

STAGE_STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class StagedBackbone(Backbone):
    """Base class of backbones whose stages have the strides of `STAGE_STRIDES`.

    Attributes:
        section: the part of the config that describes the backbone, for messages.
        stem, stages: the parts, which a subclass builds.
    """

    section = ""
    stem: nn.Module
    stages: nn.Module

    def set_outputs(self, out_features: Sequence[str], channels: Sequence[int]) -> None:
        """Set which stages give features, and the channels of all four.

        Raises:
            ValueError: a feature name is unknown.
        """
        if unknown := set(out_features) - set(STAGE_STRIDES):
            raise ValueError(f"{self.section}.OUT_FEATURES must be among {list(STAGE_STRIDES)}, got {sorted(unknown)}.")
        self._out_features = [name for name in STAGE_STRIDES if name in out_features]
        self._out_feature_strides = STAGE_STRIDES
        self._out_feature_channels = dict(zip(STAGE_STRIDES, channels, strict=True))

    def freeze(self, freeze_at: int, freeze_norms: bool = False) -> None:
        """Freeze the first parts of the backbone, in place, with their batch norms.

        Args:
            freeze_at: number of parts that are frozen, counting the stem as the first.
            freeze_norms: whether the batch norms of the other parts are frozen, too.

        Raises:
            ValueError: `freeze_at` is negative or exceeds the number of parts.
        """
        parts = [self.stem, *self.stages]
        if not 0 <= freeze_at <= len(parts):
            raise ValueError(f"MODEL.BACKBONE.FREEZE_AT must be 0 to {len(parts)}, got {freeze_at}.")
        for i, part in enumerate(parts):
            if i < freeze_at:
                part.requires_grad_(False)
            if i < freeze_at or freeze_norms:
                FrozenBatchNorm2d.convert_frozen_batchnorm(part)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features: (B, 3, H, W) -> {"res2": (B, C, H / 4, W / 4), ...}."""
        x = self.stem(images)
        features = {}
        for name, stage in zip(STAGE_STRIDES, self.stages, strict=True):
            x = stage(x)
            if name in self._out_features:
                features[name] = x
        return features
