"""Backbones of this package below a feature pyramid, for Detectron2's own meta-architectures such as Mask R-CNN."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

from .resnet_vd import build_resnet_vd_backbone
from .timm import build_timm_backbone


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg, input_shape: ShapeSpec | None = None) -> FPN:
    """Build Detectron2's FPN (p2 to p6) over `build_timm_backbone`, from MODEL.FPN.*."""
    return _fpn(cfg, build_timm_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_resnet_vd_fpn_backbone(cfg, input_shape: ShapeSpec | None = None) -> FPN:
    """Build Detectron2's FPN (p2 to p6) over `build_resnet_vd_backbone`, from MODEL.FPN.*."""
    return _fpn(cfg, build_resnet_vd_backbone(cfg, input_shape))


def _fpn(cfg, bottom_up: Backbone) -> FPN:
    fpn = FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
    for convolution in (*fpn.lateral_convs, *fpn.output_convs):
        # Unlike the pretrained layers they start from random weights, so SOLVER.BACKBONE_MULTIPLIER is not for them.
        convolution.learning_rate_factor = 1.0
    return fpn
