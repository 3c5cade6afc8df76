"""Mask DINO: classes, boxes and masks from the same queries, with a deformable encoder.

Source: https://arxiv.org/abs/2206.02777 and https://github.com/IDEA-Research/MaskDINO/tree/3831d85; the code is our own
and gives the same numbers.
"""

from collections.abc import Callable

from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from ...structures import Memory
from ..head import MaskDINODecoder, PrototypeMaskHead
from ..loss import FocalCriterion
from ..postprocessing import MaskScoringPostprocessor
from .insta_rtdetr import query_dim, read_decoder
from .mask_rtdetr import MaskRTDETR


@META_ARCH_REGISTRY.register()
class MaskDINO(MaskRTDETR):
    """Mask-RT-DETR with the decoder, losses and scores of Mask DINO, and without a projection of the levels."""

    criterion_type = FocalCriterion
    postprocessor_type = MaskScoringPostprocessor

    @classmethod
    def build_decoder(cls, cfg) -> MaskDINODecoder:
        """Build the decoder with its heads; the mask features have as many channels as the levels."""
        mask_head = PrototypeMaskHead(query_dim(cfg), cfg.MODEL.ENCODER.HIDDEN_DIM, cfg.MODEL.MASK_HEAD.DIM)
        return MaskDINODecoder(mask_head=mask_head, **read_decoder(cfg))

    @classmethod
    def build_level_projection(cls, cfg) -> Callable[[list[Tensor]], Memory]:
        """Return the function that joins the levels to the decoder's memory.

        Raises:
            ValueError: the decoder's width is not the encoder's.
        """
        if query_dim(cfg) != cfg.MODEL.ENCODER.HIDDEN_DIM:
            raise ValueError(
                f"MODEL.DECODER.HIDDEN_DIM must be 0 or MODEL.ENCODER.HIDDEN_DIM, {cfg.MODEL.ENCODER.HIDDEN_DIM}, for "
                f"MaskDINO, got {query_dim(cfg)}."
            )
        return Memory.of_levels
