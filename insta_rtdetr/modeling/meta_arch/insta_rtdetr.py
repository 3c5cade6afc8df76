"""Insta-RT-DETR: RT-DETR with a mask for every query.

Source: https://github.com/dwikifkurniawan/Insta-RT-DETR-PyTorch/tree/8458661; the code is our own and gives the same
numbers.
"""

from collections.abc import Callable

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...structures import DenoisingPredictions, Memory, ModelOutput, NoisedQueries, Prediction, Queries, Target
from ..backbone import build_backbone
from ..encoder import build_encoder
from ..head import BoxPrior, DeformableDecoder, Denoising, LevelProjection, MaskHead, QuerySelection
from ..head.deformable_decoder import RefiningDecoder
from ..head.one_to_many import extend_attention_mask, join_queries, split_queries
from ..head.query_selection import check_anchors
from ..loss import SetCriterion
from ..postprocessing import Postprocessor
from .base import InstanceSegmenter, shared_arguments


@META_ARCH_REGISTRY.register()
class InstaRTDETR(InstanceSegmenter):
    """Insta-RT-DETR: backbone, hybrid encoder, query selection, deformable decoder and mask head.

    Attributes:
        criterion_type: class of the criterion.
        postprocessor_type: class of the postprocessor.
    """

    criterion_type: type[SetCriterion] = SetCriterion
    postprocessor_type: type[Postprocessor] = Postprocessor
    class_layers = {
        r"query_selection\.class_head": 0, r"decoder\.class_heads\.\d+": 0,
        r"denoising\.label_embedding": 1,  # the padding row
    }  # fmt: skip
    mask_branch = ("encoder.mask_fusion", "decoder.mask_head", "decoder.box_prior")

    @configurable
    def __init__(
        self, *, backbone: nn.Module, encoder: nn.Module, level_projection: Callable[[list[Tensor]], Memory],
        query_selection: nn.Module, denoising: Denoising | None, decoder: RefiningDecoder, encoder_masks: bool,
        dense_supervision: bool = False, num_one_to_many: int = 0, **shared,
    ):  # fmt: skip
        """Build the model.

        Args:
            backbone: images -> features.
            encoder: features -> pyramid.
            level_projection: levels of the pyramid -> memory of the decoder.
            query_selection: selects the queries from the memory.
            denoising: makes the denoising queries, or None.
            decoder: predicts for the queries.
            encoder_masks: whether selected positions predict masks in training.
            dense_supervision: whether all positions predict classes and boxes in training.
            num_one_to_many: number of one-to-many queries in training.
            shared: arguments of `InstanceSegmenter`.
        """
        super().__init__(**shared)
        self.backbone = backbone
        self.encoder = encoder
        self.level_projection = level_projection
        self.query_selection = query_selection
        self.denoising = denoising
        self.decoder = decoder
        self.encoder_masks = encoder_masks
        self.dense_supervision, self.num_one_to_many = dense_supervision, num_one_to_many
        self.freeze_for_stage()

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Build the parts of the model from MODEL.*, INPUT.* and TEST.*."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "encoder": build_encoder(cfg, backbone.output_shape()),
            "level_projection": cls.build_level_projection(cfg),
            "query_selection": cls.build_query_selection(cfg),
            "denoising": _build_denoising(cfg) if cfg.MODEL.DENOISING.NUM_QUERIES > 0 else None,
            "decoder": cls.build_decoder(cfg),
            "encoder_masks": cfg.MODEL.LOSS.ENCODER_MASKS,
            "dense_supervision": cfg.MODEL.LOSS.DENSE_POSITIONS > 0,
            "num_one_to_many": cfg.MODEL.DECODER.NUM_ONE_TO_MANY_QUERIES,
            **shared_arguments(cfg, cls.criterion_type(cfg), cls.postprocessor_type),
        }

    @classmethod
    def build_level_projection(cls, cfg) -> Callable[[list[Tensor]], Memory]:
        """Build the module that turns the pyramid's levels into the decoder's memory."""
        return LevelProjection(cfg.MODEL.ENCODER.HIDDEN_DIM, query_dim(cfg), num_levels(cfg))

    @classmethod
    def build_query_selection(cls, cfg) -> nn.Module:
        """Build the query selection."""
        return QuerySelection(
            num_classes=cfg.MODEL.NUM_CLASSES, relative_boxes=cfg.MODEL.DECODER.RELATIVE_BOXES, **read_selection(cfg)
        )

    @classmethod
    def build_decoder(cls, cfg) -> RefiningDecoder:
        """Build the decoder with its heads."""
        mask_head = MaskHead(query_dim(cfg), cfg.MODEL.MASK_HEAD.DIM)
        box_prior = BoxPrior() if cfg.MODEL.MASK_HEAD.BOX_PRIOR else None
        return DeformableDecoder(
            mask_head=mask_head, box_prior=box_prior, relative_boxes=cfg.MODEL.DECODER.RELATIVE_BOXES,
            **read_decoder(cfg),
        )  # fmt: skip

    def run_network(self, images: Tensor, targets: list[Target] | None = None) -> ModelOutput:
        """Run the network without pre- and postprocessing; see `InstanceSegmenter.run_network`."""
        pyramid = self.extract_features(images, with_masks=self.predicts_masks)
        memory = self.level_projection(pyramid.levels)
        mask_features = self.decoder.project_masks(pyramid.mask_features) if self.predicts_masks else None
        queries, encoder_prediction = self.select_queries(memory, mask_features)
        # While the model is in training mode, frozen parts are in eval mode.
        is_learning = self.query_selection.training
        noised = extra = dense = None
        if self.denoising is not None and self.denoising.training:
            noised = self.denoising(targets, queries.content.shape[1])
        if self.num_one_to_many and is_learning:
            extra = self.query_selection.select_one_to_many(memory, *self.encoder_heads, self.num_one_to_many)
        if self.dense_supervision and is_learning:
            dense = self.query_selection.predict_dense(memory, *self.encoder_heads)
        layers, denoising, one_to_many = self._decode(queries, memory, mask_features, noised, extra)
        return ModelOutput(layers, encoder_prediction, denoising, dense=dense, one_to_many=one_to_many)

    def _decode(
        self, queries: Queries, memory: Memory, mask_features: Tensor | None, noised: NoisedQueries | None,
        extra: Queries | None,
    ) -> tuple[list[Prediction], DenoisingPredictions | None, list[Prediction] | None]:  # fmt: skip
        """Return the predictions of all layers for the queries, the noised queries and extra one-to-many queries."""
        parts = [part for part in (noised, queries, extra) if part is not None]
        sizes = [part.content.shape[1] for part in parts]
        attention_mask = None if noised is None else noised.attention_mask
        if extra is not None:
            attention_mask = extend_attention_mask(attention_mask, sum(sizes[:-1]), sizes[-1], extra.content.device)
        layers = self.decoder(join_queries(*parts), memory, mask_features, attention_mask)
        if len(parts) == 1:
            return layers, None, None
        predictions = split_queries(layers, sizes)
        denoising = None if noised is None else DenoisingPredictions(predictions.pop(0), noised.groups)
        return predictions[0], denoising, None if extra is None else predictions[1]

    @property
    def encoder_heads(self) -> tuple[nn.Module, nn.Module]:
        """Return the class head and the box head for the positions of the pyramid."""
        return self.query_selection.class_head, self.query_selection.box_head

    def select_queries(self, memory: Memory, mask_features: Tensor | None) -> tuple[Queries, Prediction]:
        """Return the selected queries and the predictions of their positions."""
        if self.encoder_masks and self.query_selection.training and mask_features is not None:
            return self.query_selection(memory, self.decoder.embed_masks, mask_features)
        return self.query_selection(memory)


def query_dim(cfg) -> int:
    """Return the number of channels of a query."""
    return cfg.MODEL.DECODER.HIDDEN_DIM or cfg.MODEL.ENCODER.HIDDEN_DIM


def num_levels(cfg) -> int:
    """Return the number of levels of the pyramid."""
    return len(cfg.MODEL.ENCODER.IN_FEATURES) + cfg.MODEL.ENCODER.NUM_EXTRA_LEVELS


def read_selection(cfg) -> dict:
    """Read the arguments that all query selections of the family share from MODEL.*."""
    decoder = cfg.MODEL.DECODER
    check_anchors(decoder.ANCHOR_SIZES, num_levels(cfg))
    return {
        "dim": query_dim(cfg),
        "num_queries": decoder.NUM_QUERIES,
        "anchor_sizes": decoder.ANCHOR_SIZES,
        "local_maxima": decoder.LOCAL_MAXIMA,
        "across_levels": decoder.MAXIMA_ACROSS_LEVELS,
    }


def read_decoder(cfg) -> dict:
    """Read the arguments that all decoders of the family share from MODEL.*."""
    decoder = cfg.MODEL.DECODER
    return {
        "dim": query_dim(cfg),
        "num_classes": cfg.MODEL.NUM_CLASSES,
        "num_layers": decoder.NUM_LAYERS,
        "eval_layers": decoder.EVAL_LAYERS,
        "num_heads": decoder.NUM_HEADS,
        "num_levels": num_levels(cfg),
        "num_points": decoder.NUM_POINTS,
        "feedforward_dim": decoder.FEEDFORWARD_DIM,
        "dropout": decoder.DROPOUT,
    }


def _build_denoising(cfg) -> Denoising:
    denoising = cfg.MODEL.DENOISING
    return Denoising(
        query_dim(cfg), cfg.MODEL.NUM_CLASSES, denoising.NUM_QUERIES, denoising.LABEL_NOISE, denoising.BOX_NOISE,
        denoising.CONTRASTIVE,
    )  # fmt: skip
