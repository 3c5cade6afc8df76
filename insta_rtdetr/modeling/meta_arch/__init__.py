"""Step 6: the meta-architectures, one file for each model."""

from .base import InstanceSegmenter
from .fastinst import FastInst
from .insta_rtdetr import InstaRTDETR
from .mask_rtdetr import MaskRTDETR
from .maskdino import MaskDINO
from .ppyoloe_seg import PPYOLOESeg
from .rfdetr_seg import RFDETRSeg
from .solov2 import SOLOv2
from .sparseinst import SparseInst

__all__ = [
    "FastInst",
    "InstaRTDETR",
    "InstanceSegmenter",
    "MaskDINO",
    "MaskRTDETR",
    "PPYOLOESeg",
    "RFDETRSeg",
    "SOLOv2",
    "SparseInst",
]
