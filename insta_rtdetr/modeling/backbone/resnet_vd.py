"""ResNet-vd: a ResNet with three 3x3 convolutions in the stem and average pooling in the shortcuts.

Parameter names are those of timm's `resnet50d`, so that its weights load by name.  There is one difference from timm:
as in the published RT-DETR weights, a network of basic blocks (depth 18 or 34) has a 1x1 convolution in the first
shortcut of its first stage.

Source: Bag of Tricks, https://arxiv.org/abs/1812.01187
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from ...layers.foldable import Foldable, fold_batch_norm

STEM_CHANNELS = 64
BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
NORMS = ("FrozenBN", "BN", "SyncBN")
STAGE_STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class ShortcutVD(nn.Sequential, Foldable):
    """Shortcut of a block: average pooling if the block has a stride, then a 1x1 convolution and its norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str):
        pool = nn.AvgPool2d(2, stride, ceil_mode=True) if stride > 1 else nn.Identity()
        super().__init__(pool, nn.Conv2d(in_channels, out_channels, 1, bias=False), get_norm(norm, out_channels))

    def fold_(self) -> None:
        """Fold the norm into the convolution."""
        self[1], self[2] = fold_batch_norm(self[1], self[2]), nn.Identity()


class BasicBlock(Foldable):
    """Residual block of two 3x3 convolutions."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, is_first: bool, norm: str):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = get_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = get_norm(norm, width)
        self.downsample = ShortcutVD(in_channels, width, stride, norm) if is_first else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: (B, C_in, h, w) -> (B, width, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)).add_(shortcut), inplace=True)

    def fold_(self) -> None:
        """Fold the norms into the convolutions."""
        self.conv1, self.bn1 = fold_batch_norm(self.conv1, self.bn1), nn.Identity()
        self.conv2, self.bn2 = fold_batch_norm(self.conv2, self.bn2), nn.Identity()


class Bottleneck(Foldable):
    """Residual block of a 1x1, a 3x3 (with the stride) and a 1x1 convolution."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, is_first: bool, norm: str, num_groups: int = 1,
        width_per_group: int = STEM_CHANNELS,
    ):  # fmt: skip
        super().__init__()
        out_channels = width * self.expansion
        width = width * width_per_group // STEM_CHANNELS * num_groups
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = get_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=num_groups, bias=False)
        self.bn2 = get_norm(norm, width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = get_norm(norm, out_channels)
        self.downsample = ShortcutVD(in_channels, out_channels, stride, norm) if is_first else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: (B, C_in, h, w) -> (B, 4 * width, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self._spatial_conv(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)).add_(shortcut), inplace=True)

    def fold_(self) -> None:
        """Fold the norms into the convolutions."""
        self.conv1, self.bn1 = fold_batch_norm(self.conv1, self.bn1), nn.Identity()
        self.conv2, self.bn2 = fold_batch_norm(self.conv2, self.bn2), nn.Identity()
        self.conv3, self.bn3 = fold_batch_norm(self.conv3, self.bn3), nn.Identity()

    def _spatial_conv(self, x: Tensor) -> Tensor:
        return self.conv2(x)


class DeformableBottleneck(Bottleneck):
    """Bottleneck whose 3x3 convolution is deformable: another convolution predicts its sampling offsets.

    Source: deformable convolution v1, https://arxiv.org/abs/1703.06211
    """

    def __init__(self, in_channels: int, width: int, stride: int, is_first: bool, norm: str, **groups):
        super().__init__(in_channels, width, stride, is_first, norm, **groups)
        # A (y, x) offset for each of the nine points.
        self.conv2_offset = nn.Conv2d(width, 18, 3, stride, 1)
        self.conv2 = DeformConv2d(width, width, 3, stride, 1, bias=False)

    def _spatial_conv(self, x: Tensor) -> Tensor:
        return self.conv2(x, self.conv2_offset(x))


class ResNetVD(Backbone, Foldable):
    """ResNet-vd without its classifier."""

    def __init__(
        self, *, depth: int, norm: str, freeze_at: int, out_features: list[str],
        deform_on_per_stage: Sequence[bool] = (False, False, False, False), num_groups: int = 1,
        width_per_group: int = STEM_CHANNELS,
    ):  # fmt: skip
        """Build the network.

        Args:
            depth: 18, 34, 50 or 101.
            norm: Detectron2's name of the norm: "FrozenBN", "BN" or "SyncBN".
            freeze_at: number of parts that are frozen, counting the stem as the first; 0 freezes none.
            out_features: some of res2, res3, res4, res5.
            deform_on_per_stage: whether res2, res3, res4, res5 have deformable convolutions.
            num_groups, width_per_group: groups of the 3x3 convolutions, and channels of each in res2 (ResNeXt).

        Raises:
            ValueError: the depth, the norm or a feature name is unknown, `freeze_at` exceeds the number of parts, or
                deformable convolutions or groups are asked for at depth 18 or 34, or both together.
        """
        super().__init__()
        _check_depth(depth, deform_on_per_stage, (num_groups, width_per_group) != (1, STEM_CHANNELS))
        if unknown := set(out_features) - set(STAGE_STRIDES):
            raise ValueError(f"MODEL.RESNETS.OUT_FEATURES must be among {list(STAGE_STRIDES)}, got {sorted(unknown)}.")
        if not 0 <= freeze_at <= 1 + len(STAGE_STRIDES):
            raise ValueError(f"MODEL.BACKBONE.FREEZE_AT must be 0 to {1 + len(STAGE_STRIDES)}, got {freeze_at}.")
        if norm not in NORMS:
            raise ValueError(f"MODEL.RESNETS.NORM must be one of {', '.join(NORMS)}, got {norm!r}.")
        self.conv1 = _stem(norm)
        self.bn1 = get_norm(norm, STEM_CHANNELS)
        plain = Bottleneck if depth >= 50 else BasicBlock
        options = {"num_groups": num_groups, "width_per_group": width_per_group} if depth >= 50 else {}
        channels = STEM_CHANNELS
        for i, num_blocks in enumerate(BLOCKS_PER_STAGE[depth], start=1):
            width = STEM_CHANNELS * 2 ** (i - 1)
            block = DeformableBottleneck if deform_on_per_stage[i - 1] else plain
            stage = _stage(partial(block, norm=norm, **options), channels, width, num_blocks, 1 if i == 1 else 2)
            self.add_module(f"layer{i}", stage)
            channels = width * plain.expansion
        self._out_features = list(out_features)
        self._out_feature_strides = STAGE_STRIDES
        self._out_feature_channels = {
            name: STEM_CHANNELS * 2**i * plain.expansion for i, name in enumerate(STAGE_STRIDES)
        }
        self._init_weights()
        self._freeze(freeze_at)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features: (B, 3, H, W) -> {"res2": (B, C, H / 4, W / 4), ...}."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        features = {}
        for name, stage in zip(STAGE_STRIDES, (self.layer1, self.layer2, self.layer3, self.layer4), strict=True):
            x = stage(x)
            if name in self._out_features:
                features[name] = x
        return features

    def fold_(self) -> None:
        """Fold the stem's norms into its convolutions."""
        self.conv1[0], self.conv1[1] = fold_batch_norm(self.conv1[0], self.conv1[1]), nn.Identity()
        self.conv1[3], self.conv1[4] = fold_batch_norm(self.conv1[3], self.conv1[4]), nn.Identity()
        self.conv1[6], self.bn1 = fold_batch_norm(self.conv1[6], self.bn1), nn.Identity()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, DeformConv2d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, DeformableBottleneck):  # with zero offsets it starts as an ordinary convolution
                nn.init.zeros_(module.conv2_offset.weight)
                nn.init.zeros_(module.conv2_offset.bias)

    def _freeze(self, freeze_at: int) -> None:
        parts = [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]
        for part in parts[:freeze_at]:
            part.requires_grad_(False)
        if freeze_at > 0:
            self.conv1 = FrozenBatchNorm2d.convert_frozen_batchnorm(self.conv1)
            self.bn1 = FrozenBatchNorm2d.convert_frozen_batchnorm(self.bn1)
        for i in range(1, freeze_at):
            setattr(self, f"layer{i}", FrozenBatchNorm2d.convert_frozen_batchnorm(getattr(self, f"layer{i}")))


def _check_depth(depth: int, deform_on_per_stage: Sequence[bool], is_resnext: bool) -> None:
    if depth not in BLOCKS_PER_STAGE:
        raise ValueError(f"MODEL.RESNETS.DEPTH must be one of {list(BLOCKS_PER_STAGE)}, got {depth}.")
    if any(deform_on_per_stage) and depth < 50:
        raise ValueError(f"MODEL.RESNETS.DEFORM_ON_PER_STAGE needs MODEL.RESNETS.DEPTH 50 or 101, got {depth}.")
    if is_resnext and (depth < 50 or any(deform_on_per_stage)):
        raise ValueError(
            "MODEL.RESNETS.NUM_GROUPS and WIDTH_PER_GROUP need MODEL.RESNETS.DEPTH 50 or 101 and no "
            f"DEFORM_ON_PER_STAGE, got depth {depth} and {list(deform_on_per_stage)}."
        )


def _stem(norm: str) -> nn.Sequential:
    half = STEM_CHANNELS // 2
    return nn.Sequential(
        nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False), get_norm(norm, half), nn.ReLU(inplace=True),
        nn.Conv2d(half, half, 3, padding=1, bias=False), get_norm(norm, half), nn.ReLU(inplace=True),
        nn.Conv2d(half, STEM_CHANNELS, 3, padding=1, bias=False),
    )  # fmt: skip


def _stage(
    block: Callable[..., nn.Module], in_channels: int, width: int, num_blocks: int, stride: int
) -> nn.Sequential:
    first = block(in_channels, width, stride, True)
    rest = [block(width * first.expansion, width, 1, False) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


@BACKBONE_REGISTRY.register()
def build_resnet_vd_backbone(cfg, input_shape: ShapeSpec | None = None) -> ResNetVD:
    """Build a ResNet-vd from MODEL.RESNETS.* and MODEL.BACKBONE.FREEZE_AT."""
    return ResNetVD(
        depth=cfg.MODEL.RESNETS.DEPTH,
        norm=cfg.MODEL.RESNETS.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        out_features=list(cfg.MODEL.RESNETS.OUT_FEATURES),
        deform_on_per_stage=cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE,
        num_groups=cfg.MODEL.RESNETS.NUM_GROUPS,
        width_per_group=cfg.MODEL.RESNETS.WIDTH_PER_GROUP,
    )
