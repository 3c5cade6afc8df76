"""Building the backbone of a model."""

from detectron2 import modeling
from detectron2.config import CfgNode
from detectron2.modeling.backbone import Backbone

from ...layers.traced_folding import merge_frozen_norms_


def build_backbone(cfg: CfgNode) -> Backbone:
    """Build the backbone MODEL.BACKBONE.NAME, and merge its frozen batch norms into the convolutions before them."""
    backbone = modeling.build_backbone(cfg)
    merge_frozen_norms_(backbone)
    return backbone
