"""PP-YOLOE_seg: convolutions alone; every position of the pyramid predicts classes, a box and a mask within it.

Source: https://github.com/PaddlePaddle/PaddleDetection/tree/666f597 (configs/ppyoloe_seg) and
https://arxiv.org/abs/2203.16250; the code is our own and gives the same numbers.
"""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...structures import ModelOutput, Target
from ..backbone import build_backbone
from ..encoder import build_encoder
from ..head import TaskAlignedHead
from ..loss import TaskAlignedCriterion
from ..postprocessing import DensePostprocessor
from .base import InstanceSegmenter, require_masks, shared_arguments


@META_ARCH_REGISTRY.register()
class PPYOLOESeg(InstanceSegmenter):
    """CSPRepResNet, path aggregation network with mask prototypes, task-aligned head."""

    class_layers = {r"head\.class_heads\.\d+": 0}

    @configurable
    def __init__(self, *, backbone: nn.Module, encoder: nn.Module, head: TaskAlignedHead, **shared):
        super().__init__(**shared)
        self.backbone = backbone
        self.encoder = encoder
        self.head = head

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Build the parts of the model from MODEL.*, INPUT.* and TEST.*."""
        backbone = build_backbone(cfg)
        encoder = build_encoder(cfg, backbone.output_shape())
        return {
            "backbone": backbone,
            "encoder": encoder,
            "head": TaskAlignedHead(
                level_dims=encoder.level_dims,
                num_classes=cfg.MODEL.NUM_CLASSES,
                mask_dim=cfg.MODEL.MASK_HEAD.DIM,
                num_bins=cfg.MODEL.DECODER.NUM_BINS,
            ),
            **shared_arguments(cfg, TaskAlignedCriterion(cfg), DensePostprocessor),
        }

    def run_network(self, images: Tensor, targets: list[Target] | None = None) -> ModelOutput:
        """Run the network without pre- and postprocessing; see `InstanceSegmenter.run_network`.

        Raises:
            ValueError: targets have no masks.
        """
        pyramid = self.extract_features(images)
        prediction = self.head(pyramid)
        if self.training:
            require_masks(self, targets)
        return ModelOutput([prediction])
