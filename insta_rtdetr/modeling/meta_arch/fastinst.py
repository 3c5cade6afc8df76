"""FastInst: queries from local maxima of a class map, and a decoder that updates pixels as well as queries.

Source: https://github.com/junjiehe96/FastInst/tree/4996a61; the code is our own and gives the same numbers.
"""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...structures import MaskGuidedPredictions, ModelOutput, Target
from ..backbone import build_backbone
from ..encoder import build_encoder
from ..head import DualPathDecoder, QueryProposal
from ..head.dual_path_decoder import target_visibility
from ..loss import SoftmaxCriterion
from ..postprocessing import SoftmaxMaskScoringPostprocessor
from .base import InstanceSegmenter, require_masks, shared_arguments

# Index of the pyramid level that queries are taken from, which has stride 16.
PROPOSAL_LEVEL = 1


@META_ARCH_REGISTRY.register()
class FastInst(InstanceSegmenter):
    """FastInst: backbone, PPM-FPN, query proposal and dual-path decoder."""

    predicts_boxes = False
    # The last row of each layer is that of "no object".
    class_layers = {r"query_proposal\.class_head\.2": 1, r"decoder\.prediction_heads\.\d+\.class_head\.layers\.2": 1}

    @configurable
    def __init__(
        self, *, backbone: nn.Module, encoder: nn.Module, query_proposal: QueryProposal, decoder: DualPathDecoder,
        **shared,
    ):  # fmt: skip
        super().__init__(**shared)
        self.backbone = backbone
        self.encoder = encoder
        self.query_proposal = query_proposal
        self.decoder = decoder

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Build the parts of the model from MODEL.*, INPUT.* and TEST.*."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "encoder": build_encoder(cfg, backbone.output_shape()),
            "query_proposal": QueryProposal(
                cfg.MODEL.ENCODER.HIDDEN_DIM, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DECODER.NUM_QUERIES
            ),
            "decoder": _build_decoder(cfg),
            **shared_arguments(cfg, SoftmaxCriterion(cfg), SoftmaxMaskScoringPostprocessor),
        }

    def run_network(self, images: Tensor, targets: list[Target] | None = None) -> ModelOutput:
        """Run the network without pre- and postprocessing; see `InstanceSegmenter.run_network`.

        Raises:
            ValueError: targets have no masks.
        """
        pyramid = self.extract_features(images)
        queries, proposal_logits = self.query_proposal(pyramid.levels[PROPOSAL_LEVEL], self.decoder.position_grid)
        layers, states = self.decoder(queries, pyramid.mask_features)
        if not self.training:
            return ModelOutput(layers)
        require_masks(self, targets)
        (match,) = self.criterion.matcher(layers[-1:], targets)
        visible = target_visibility(match, targets, queries.content.shape[1], states[-1].size)
        guided = MaskGuidedPredictions(self.decoder.predict_guided(states, visible), match)
        return ModelOutput(layers, guided=guided, proposal_logits=proposal_logits)


def _build_decoder(cfg) -> DualPathDecoder:
    decoder = cfg.MODEL.DECODER
    return DualPathDecoder(
        dim=cfg.MODEL.ENCODER.HIDDEN_DIM,
        num_classes=cfg.MODEL.NUM_CLASSES,
        num_layers=decoder.NUM_LAYERS,
        eval_layers=decoder.EVAL_LAYERS,
        num_heads=decoder.NUM_HEADS,
        feedforward_dim=decoder.FEEDFORWARD_DIM,
        mask_dim=cfg.MODEL.MASK_HEAD.DIM,
        num_aux_queries=decoder.NUM_AUX_QUERIES,
        position_side=decoder.POSITION_SIDE,
    )
