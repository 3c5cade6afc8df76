"""Mask-RT-DETR: RT-DETR whose positions and layers share heads, and whose queries start with the boxes of masks.

Source: https://github.com/PaddlePaddle/PaddleDetection/tree/666f597 (configs/mask_rtdetr); the code is our own and
gives the same numbers for square inputs.  PaddleDetection gives position codes to the wrong tokens of other inputs, and
masks out usable anchors of landscape images.
"""

from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...structures import Memory, Prediction, Queries
from ..head import MaskQuerySelection, PrototypeMaskHead, SharedHeadDecoder
from .insta_rtdetr import InstaRTDETR, query_dim, read_decoder, read_selection


@META_ARCH_REGISTRY.register()
class MaskRTDETR(InstaRTDETR):
    """Insta-RT-DETR with the heads of Mask-RT-DETR; its encoder and losses are set in the config."""

    class_layers = {r"decoder\.class_head": 0, r"denoising\.label_embedding": 1}

    @classmethod
    def build_query_selection(cls, cfg) -> nn.Module:
        """Build the query selection.

        Raises:
            ValueError: MODEL.STAGE is not "joint", although queries start with the boxes of masks.
        """
        if cfg.MODEL.STAGE != "joint" and cfg.MODEL.DECODER.MASK_ENHANCED_BOXES:
            raise ValueError(
                f"in the stage {cfg.MODEL.STAGE} boxes must not depend on masks. Set MODEL.DECODER.MASK_ENHANCED_BOXES "
                "False in both stages and at test, or MODEL.STAGE joint."
            )
        decoder = cfg.MODEL.DECODER
        return MaskQuerySelection(
            mask_enhanced=decoder.MASK_ENHANCED_BOXES, last_cell=decoder.MASK_BOX_LAST_CELL, **read_selection(cfg)
        )

    @classmethod
    def build_decoder(cls, cfg) -> SharedHeadDecoder:
        """Build the decoder with its heads."""
        mask_head = PrototypeMaskHead(query_dim(cfg), cfg.MODEL.MASK_HEAD.FEATURE_DIM, cfg.MODEL.MASK_HEAD.DIM)
        return SharedHeadDecoder(mask_head=mask_head, **read_decoder(cfg))

    @property
    def encoder_heads(self) -> tuple[nn.Module, nn.Module]:
        """Return the decoder's class head and box head, which are those of the positions too."""
        return self.decoder.class_head, self.decoder.box_head

    def select_queries(self, memory: Memory, mask_features: Tensor | None) -> tuple[Queries, Prediction]:
        """Return the selected queries and the predictions of their positions."""
        return self.query_selection(memory, mask_features, self.decoder)
