"""Insta-RT-DETR: RT-DETR with a mask for every query.

Source: https://github.com/dwikifkurniawan/Insta-RT-DETR-PyTorch/tree/8458661; same numbers, other code.
"""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import Tensor, nn

from ...structures import DenoisingPredictions, ModelOutput, Target
from ..encoder import build_encoder
from ..head import DeformableDecoder, Denoising, LevelProjection, MaskHead, QuerySelection
from ..head.deformable_decoder import join_queries
from ..head.query_selection import check_anchors
from ..loss import SetCriterion
from ..postprocessing import Postprocessor
from .base import InstanceSegmenter, read_around_network


@META_ARCH_REGISTRY.register()
class InstaRTDETR(InstanceSegmenter):
    """Backbone, hybrid encoder, query selection, deformable decoder, mask head."""

    @configurable
    def __init__(
        self, *, backbone: nn.Module, encoder: nn.Module, level_projection: LevelProjection,
        query_selection: QuerySelection, denoising: Denoising | None, decoder: DeformableDecoder, **around_network,
    ):  # fmt: skip
        super().__init__(**around_network)
        self.backbone = backbone
        self.encoder = encoder
        self.level_projection = level_projection
        self.query_selection = query_selection
        self.denoising = denoising
        self.decoder = decoder

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read every MODEL.*, INPUT.* and TEST.* key of the model."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "encoder": build_encoder(cfg, backbone.output_shape()),
            "level_projection": _build_level_projection(cfg),
            "query_selection": _build_query_selection(cfg),
            "denoising": _build_denoising(cfg) if cfg.MODEL.DENOISING.NUM_QUERIES > 0 else None,
            "decoder": _build_decoder(cfg),
            **read_around_network(cfg, SetCriterion(cfg), Postprocessor),
        }

    def run_network(self, images: Tensor, targets: list[Target] | None = None) -> ModelOutput:
        """(B, 3, H, W) -> predictions; see `InstanceSegmenter.run_network`."""
        pyramid = self.encoder(self.backbone(images))
        memory = self.level_projection(pyramid.levels)
        queries, encoder_prediction = self.query_selection(memory)
        if not self.training or self.denoising is None:
            layers = self.decoder(queries, memory, pyramid.mask_features)
            return ModelOutput(layers, encoder_prediction)
        noised = self.denoising(targets, queries.content.shape[1])
        layers = self.decoder(
            join_queries(noised, queries), memory, pyramid.mask_features, noised.attention_mask
        )
        num_noised = noised.content.shape[1]
        return ModelOutput(
            [layer.of_queries(slice(num_noised, None)) for layer in layers],
            encoder_prediction,
            DenoisingPredictions([layer.of_queries(slice(num_noised)) for layer in layers], noised.groups),
        )


def _build_level_projection(cfg) -> LevelProjection:
    return LevelProjection(
        cfg.MODEL.ENCODER.HIDDEN_DIM, cfg.MODEL.ENCODER.HIDDEN_DIM, len(cfg.MODEL.ENCODER.IN_FEATURES)
    )


def _build_query_selection(cfg) -> QuerySelection:
    decoder = cfg.MODEL.DECODER
    check_anchors(decoder.ANCHOR_SIZES, len(cfg.MODEL.ENCODER.IN_FEATURES))
    return QuerySelection(
        cfg.MODEL.ENCODER.HIDDEN_DIM,
        cfg.MODEL.NUM_CLASSES,
        decoder.NUM_QUERIES,
        decoder.ANCHOR_SIZES,
        decoder.LOCAL_MAXIMA,
    )


def _build_denoising(cfg) -> Denoising:
    denoising = cfg.MODEL.DENOISING
    return Denoising(
        cfg.MODEL.ENCODER.HIDDEN_DIM,
        cfg.MODEL.NUM_CLASSES,
        denoising.NUM_QUERIES,
        denoising.LABEL_NOISE,
        denoising.BOX_NOISE,
    )


def _build_decoder(cfg) -> DeformableDecoder:
    decoder = cfg.MODEL.DECODER
    return DeformableDecoder(
        dim=cfg.MODEL.ENCODER.HIDDEN_DIM,
        num_classes=cfg.MODEL.NUM_CLASSES,
        num_layers=decoder.NUM_LAYERS,
        eval_layers=decoder.EVAL_LAYERS,
        num_heads=decoder.NUM_HEADS,
        num_levels=len(cfg.MODEL.ENCODER.IN_FEATURES),
        num_points=decoder.NUM_POINTS,
        feedforward_dim=decoder.FEEDFORWARD_DIM,
        dropout=decoder.DROPOUT,
        mask_head=MaskHead(cfg.MODEL.ENCODER.HIDDEN_DIM, cfg.MODEL.MASK_HEAD.DIM),
    )
