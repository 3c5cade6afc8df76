"""RF-DETR-Seg: a plain vision transformer, groups of queries, and a mask head of depthwise convolutions.

Source: https://arxiv.org/abs/2511.09554 and https://github.com/roboflow/rf-detr, release 1.11.2; the code is our own
and gives the same numbers.
"""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...structures import Memory, ModelOutput, Prediction, Target
from ..backbone import build_backbone
from ..encoder import build_encoder
from ..head import GroupedDecoder, GroupedQuerySelection
from ..head.mask_head import masks_of
from ..loss import IoUAwareCriterion
from ..postprocessing import ClippingPostprocessor
from .base import InstanceSegmenter, shared_arguments


@META_ARCH_REGISTRY.register()
class RFDETRSeg(InstanceSegmenter):
    """RF-DETR-Seg: backbone, projector, query selection, and decoder with its mask head."""

    # After the classes, the published weights have rows for the 11 unused numbers of COCO's categories.
    class_layers = {r"query_selection\.groups\.\d+\.class_head": 11, r"decoder\.class_head": 11}
    mask_branch = ("decoder.mask_head",)

    @configurable
    def __init__(
        self, *, backbone: nn.Module, encoder: nn.Module, query_selection: GroupedQuerySelection,
        decoder: GroupedDecoder, num_classes: int, **shared,
    ):  # fmt: skip
        super().__init__(**shared)
        self.backbone = backbone
        self.encoder = encoder
        self.query_selection = query_selection
        self.decoder = decoder
        self.num_classes = num_classes
        self.class_layers = dict.fromkeys(self.class_layers, decoder.class_head.out_features - num_classes)
        self.freeze_for_stage()

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Build the parts of the model from MODEL.*, INPUT.* and TEST.*."""
        backbone = build_backbone(cfg)
        decoder = cfg.MODEL.DECODER
        num_outputs = cfg.MODEL.NUM_CLASSES + cfg.MODEL.NUM_UNUSED_CLASSES
        return {
            "backbone": backbone,
            "encoder": build_encoder(cfg, backbone.output_shape()),
            "query_selection": GroupedQuerySelection(
                cfg.MODEL.ENCODER.HIDDEN_DIM, num_outputs, decoder.NUM_QUERIES, decoder.ANCHOR_SIZES, decoder.NUM_GROUPS
            ),
            "decoder": _build_decoder(cfg, num_outputs),
            "num_classes": cfg.MODEL.NUM_CLASSES,
            **shared_arguments(
                cfg, IoUAwareCriterion(cfg), ClippingPostprocessor, divisibility=backbone.size_divisibility
            ),
        }

    def run_network(self, images: Tensor, targets: list[Target] | None = None) -> ModelOutput:
        """Run the network without pre- and postprocessing; see `InstanceSegmenter.run_network`."""
        pyramid = self.extract_features(images)
        memory = Memory.of_levels(pyramid.levels)
        queries, tokens, class_logits, boxes = self.query_selection(memory)
        mask_features = None
        if self.predicts_masks:
            mask_features = self.decoder.mask_head.enlarge(pyramid.mask_features, images.shape[2:])
        layers = self.decoder(queries, memory, mask_features)
        # While the model is in training mode, a frozen decoder is in eval mode.
        if not self.decoder.training:
            return ModelOutput([layer.slice_classes(slice(self.num_classes)) for layer in layers])
        encoder = Prediction(class_logits, boxes, *masks_of(self.decoder.mask_head, tokens, mask_features))
        return ModelOutput(layers, encoder, groups=queries.groups)


def _build_decoder(cfg, num_outputs: int) -> GroupedDecoder:
    decoder = cfg.MODEL.DECODER
    return GroupedDecoder(
        dim=cfg.MODEL.ENCODER.HIDDEN_DIM,
        num_classes=num_outputs,
        num_layers=decoder.NUM_LAYERS,
        eval_layers=decoder.EVAL_LAYERS,
        num_heads=decoder.NUM_HEADS,
        num_cross_heads=decoder.NUM_CROSS_HEADS,
        num_levels=len(decoder.ANCHOR_SIZES),
        num_points=decoder.NUM_POINTS,
        feedforward_dim=decoder.FEEDFORWARD_DIM,
        dropout=decoder.DROPOUT,
        mask_stride=cfg.MODEL.MASK_HEAD.STRIDE,
    )
