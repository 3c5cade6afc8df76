"""SparseInst: convolutions alone, and queries that are means of the features where their objects are.

Source: https://github.com/hustvl/SparseInst/tree/a899015 and https://arxiv.org/abs/2203.12827; the code is our
own and gives the same numbers.
"""

from dataclasses import replace

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...layers.precision import full_precision
from ...structures import ModelOutput, Prediction, Target
from ..backbone import build_backbone
from ..encoder import build_encoder
from ..head import InstanceActivationDecoder
from ..loss import InstanceActivationCriterion
from ..postprocessing import OneClassPostprocessor
from .base import InstanceSegmenter, require_masks, shared_arguments


@META_ARCH_REGISTRY.register()
class SparseInst(InstanceSegmenter):
    """Backbone, instance context encoder, decoder with instance activation maps."""

    predicts_boxes = False
    class_layers = {r"decoder\.instance_branch\.class_head": 0}

    @configurable
    def __init__(self, *, backbone: nn.Module, encoder: nn.Module, decoder: InstanceActivationDecoder, **shared):
        super().__init__(**shared)
        self.backbone = backbone
        self.encoder = encoder
        self.decoder = decoder

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Build the parts of the model from MODEL.*, INPUT.* and TEST.*."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "encoder": build_encoder(cfg, backbone.output_shape()),
            "decoder": InstanceActivationDecoder(
                feature_dim=cfg.MODEL.ENCODER.HIDDEN_DIM,
                dim=cfg.MODEL.DECODER.HIDDEN_DIM or cfg.MODEL.ENCODER.HIDDEN_DIM,
                num_convs=cfg.MODEL.DECODER.NUM_LAYERS,
                num_queries=cfg.MODEL.DECODER.NUM_QUERIES,
                num_groups=cfg.MODEL.DECODER.NUM_GROUPS,
                num_classes=cfg.MODEL.NUM_CLASSES,
                mask_dim=cfg.MODEL.MASK_HEAD.DIM,
            ),
            **shared_arguments(cfg, InstanceActivationCriterion(cfg), OneClassPostprocessor),
        }

    def run_network(self, images: Tensor, targets: list[Target] | None = None) -> ModelOutput:
        """Run the network without pre- and postprocessing; see `InstanceSegmenter.run_network`.

        In eval mode, the class probabilities include the objectness.

        Raises:
            ValueError: targets have no masks.
        """
        pyramid = self.extract_features(images)
        prediction = self.decoder(pyramid.mask_features)
        if not self.training:
            return ModelOutput([with_objectness(prediction)])
        require_masks(self, targets)
        return ModelOutput([prediction])


def with_objectness(prediction: Prediction) -> Prediction:
    """Replace the class probabilities by their geometric means with the objectness."""
    objectness = full_precision(prediction.objectness_logits).sigmoid()[..., None]
    probs = (full_precision(prediction.class_logits).sigmoid() * objectness).sqrt()
    return replace(prediction, class_logits=probs.logit(), objectness_logits=None)
