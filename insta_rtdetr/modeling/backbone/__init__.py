"""Step 2: image (B, 3, H, W) -> {"res2": (B, C, H / 4, W / 4), ..., "res5": (B, C, H / 32, W / 32)}.

The outputs of a vision transformer all have one stride and are named block3, block6, ...
"""

from .build import build_backbone
from .csp_represnet import CSPRepResNet, build_csp_represnet_backbone
from .deformable_resnet import build_deformable_resnet_backbone
from .dinov2_windowed import WindowedDINOv2, build_dinov2_windowed_backbone
from .fpn import build_resnet_vd_fpn_backbone, build_timm_fpn_backbone
from .hgnetv2 import HGNetV2, build_hgnetv2_backbone
from .resnet_vd import ResNetVD, build_resnet_vd_backbone
from .timm import TimmBackbone, build_timm_backbone

__all__ = [
    "CSPRepResNet",
    "HGNetV2",
    "ResNetVD",
    "TimmBackbone",
    "WindowedDINOv2",
    "build_backbone",
    "build_csp_represnet_backbone",
    "build_deformable_resnet_backbone",
    "build_dinov2_windowed_backbone",
    "build_hgnetv2_backbone",
    "build_resnet_vd_backbone",
    "build_resnet_vd_fpn_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
]
