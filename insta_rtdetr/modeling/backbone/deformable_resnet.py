"""Detectron2's ResNet with torchvision's deformable convolutions, which need no compiled operators of Detectron2."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import ResNet, build_resnet_backbone
from detectron2.modeling.backbone.resnet import DeformBottleneckBlock
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from ...layers.foldable import Foldable, fold_batch_norm


class NormDeformConv2d(DeformConv2d, Foldable):
    """torchvision's deformable convolution with a norm behind it, as Detectron2's has."""

    def __init__(self, *args, norm: nn.Module, **kwargs):
        super().__init__(*args, bias=False, **kwargs)
        self.norm = norm

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C_in, h, w), offsets (y, x) and weights of each point -> (B, C_out, h / stride, w / stride)."""
        return self.norm(super().forward(x, offset, mask))

    def fold_(self) -> None:
        """Put the norm into the convolution."""
        folded = fold_batch_norm(self, self.norm)
        self.weight, self.bias, self.norm = folded.weight, folded.bias, nn.Identity()


@BACKBONE_REGISTRY.register()
def build_deformable_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's ResNet of MODEL.RESNETS.*; parameters have its names."""
    backbone = build_resnet_backbone(cfg, input_shape)
    for block in backbone.modules():
        if isinstance(block, DeformBottleneckBlock):
            block.conv2 = _like(block.conv2)
    return backbone


def _like(conv: nn.Module) -> NormDeformConv2d:
    """torchvision's version of Detectron2's `DeformConv` or `ModulatedDeformConv`, with its weights and its norm."""
    made = NormDeformConv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups,
        norm=conv.norm,
    )  # fmt: skip
    made.weight = conv.weight
    return made
