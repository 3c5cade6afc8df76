"""Mask DINO: boxes, masks and classes of the same queries, from a deformable encoder.

Source: https://github.com/IDEA-Research/MaskDINO/tree/3831d85 and https://arxiv.org/abs/2206.02777; same numbers, other
code.
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
    """Mask-RT-DETR with another decoder, other losses and other scores, on the levels as the encoder gives them."""

    criterion_type = FocalCriterion
    postprocessor_type = MaskScoringPostprocessor

    @classmethod
    def build_decoder(cls, cfg) -> MaskDINODecoder:
        """The decoder with its heads; mask features are as wide as the levels."""
        mask_head = PrototypeMaskHead(query_dim(cfg), cfg.MODEL.ENCODER.HIDDEN_DIM, cfg.MODEL.MASK_HEAD.DIM)
        return MaskDINODecoder(mask_head=mask_head, **read_decoder(cfg))

    @classmethod
    def build_level_projection(cls, cfg) -> Callable[[list[Tensor]], Memory]:
        """What makes the decoder's memory of the pyramid's levels.

        Raises:
            ValueError: the decoder's width is not the encoder's.
        """
        if query_dim(cfg) != cfg.MODEL.ENCODER.HIDDEN_DIM:
            raise ValueError(
                f"MODEL.DECODER.HIDDEN_DIM must be 0 or MODEL.ENCODER.HIDDEN_DIM, {cfg.MODEL.ENCODER.HIDDEN_DIM}, for "
                f"MaskDINO, got {query_dim(cfg)}."
            )
        return Memory.of_levels
