"""CSPRepResNet, the backbone of PP-YOLOE+.

Source: PP-YOLOE, https://arxiv.org/abs/2203.16250, and https://github.com/PaddlePaddle/PaddleDetection/tree/666f597;
the code is our own and gives the same numbers.
"""

from collections.abc import Sequence

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import nn

from ...layers.conv import ConvNorm
from ...layers.csp_rep import CSPConcatBlock, EffectiveSqueezeExcitation, RepResidualBlock
from .staged import StagedBackbone

# Of the size L, which the other sizes are multiples of: channels of the stem and of the stages, blocks of the stages.
STEM_CHANNELS, STAGE_CHANNELS, STAGE_BLOCKS = 64, (128, 256, 512, 1024), (3, 6, 6, 3)


class CSPRepResNet(StagedBackbone):
    """Cross-stage partial network of RepVGG blocks with effective squeeze-and-excitation."""

    section = "MODEL.CSPREPRESNET"

    def __init__(self, *, width: float, depth: float, freeze_at: int, out_features: Sequence[str]):
        """Build the network.

        Args:
            width: factor on the channels of the size L.
            depth: factor on the number of blocks of the size L.
            freeze_at: number of parts that are frozen, counting the stem as the first; 0 freezes none.
            out_features: some of res2, res3, res4, res5.

        Raises:
            ValueError: a factor is not positive, a feature name is unknown, or `freeze_at` exceeds the number of parts.
        """
        super().__init__()
        if not width > 0 or not depth > 0:
            raise ValueError(f"MODEL.CSPREPRESNET.WIDTH and DEPTH must be positive, got {width} and {depth}.")
        stem, *channels = (max(round(number * width), 1) for number in (STEM_CHANNELS, *STAGE_CHANNELS))
        self.stem = nn.Sequential(
            ConvNorm(3, stem // 2, 3, stride=2, activation=nn.SiLU),
            ConvNorm(stem // 2, stem // 2, 3, activation=nn.SiLU),
            ConvNorm(stem // 2, stem, 3, activation=nn.SiLU),
        )
        self.stages = nn.ModuleList(
            _stage(in_channels, out_channels, max(round(number * depth), 1))
            for in_channels, out_channels, number in zip([stem, *channels], channels, STAGE_BLOCKS)
        )
        self.set_outputs(out_features, channels)
        self.freeze(freeze_at)


def _stage(in_channels: int, out_channels: int, num_blocks: int) -> nn.Sequential:
    """Build a stage: a convolution of stride 2, and a cross-stage partial block with attention."""
    middle = (in_channels + out_channels) // 2
    blocks = [RepResidualBlock(middle // 2, has_shortcut=True, is_scaled=True) for _ in range(num_blocks)]
    attention = EffectiveSqueezeExcitation(middle)
    return nn.Sequential(
        ConvNorm(in_channels, middle, 3, stride=2, activation=nn.SiLU),
        CSPConcatBlock(middle, middle // 2, out_channels, nn.Sequential(*blocks), attention),
    )


@BACKBONE_REGISTRY.register()
def build_csp_represnet_backbone(cfg, input_shape: ShapeSpec | None = None) -> CSPRepResNet:
    """Build a CSPRepResNet from MODEL.CSPREPRESNET.* and MODEL.BACKBONE.FREEZE_AT."""
    settings = cfg.MODEL.CSPREPRESNET
    return CSPRepResNet(
        width=settings.WIDTH,
        depth=settings.DEPTH,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        out_features=settings.OUT_FEATURES,
    )
