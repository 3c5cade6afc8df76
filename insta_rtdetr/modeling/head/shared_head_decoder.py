"""The same decoder with one set of heads, which answers for queries before the first layer and after every one.

Source: Mask-RT-DETR, https://github.com/PaddlePaddle/PaddleDetection/tree/666f597, after Mask DINO,
https://arxiv.org/abs/2206.02777
"""

from torch import Tensor, nn

from ...layers.boxes import shift_logits
from ...layers.mlp import MLP
from ...structures import Memory, Prediction, Queries
from .deformable_decoder import RefiningDecoder
from .mask_head import masks_of
from .query_selection import init_box_head, init_class_head


class SharedHeadDecoder(RefiningDecoder):
    """One norm, class head, box head and mask head for all layers; the positions of the pyramid use them too."""

    def __init__(self, *, dim: int, num_classes: int, **layers):
        """Build.

        Args:
            dim: width `C` of a query.
            num_classes: number of classes.
            layers: see `RefiningDecoder`.
        """
        super().__init__(dim=dim, **layers)
        self.norm = nn.LayerNorm(dim)
        self.class_head = nn.Linear(dim, num_classes)
        self.box_head = MLP(dim, dim, 4, num_layers=3)
        init_class_head(self.class_head)
        init_box_head(self.box_head)

    def forward(
        self, queries: Queries, memory: Memory, mask_features: Tensor | None, attention_mask: Tensor | None = None
    ) -> list[Prediction]:
        """See `RefiningDecoder`; in training what the queries answer before the first layer comes first."""
        layers = super().forward(queries, memory, mask_features, attention_mask)
        if not self.training:
            return layers
        return [self.answer(queries.content, queries.reference_logits.sigmoid(), mask_features), *layers]

    def answer(self, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """Classes and masks of queries.

        Args:
            content: (B, Q, C).
            boxes: (B, Q, 4), cxcywh, passed on.
            mask_features: (B, C_mask, h, w), projected by the mask head; None: no masks are wanted.
        """
        content = self.norm(content)
        return Prediction(self.class_head(content), boxes, *masks_of(self.mask_head, content, mask_features))

    def refine(self, layer: int, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """See `RefiningDecoder`; a box learns from the one after it, not from later ones."""
        shift = self.box_head(content)
        return shift_logits(boxes, shift), shift_logits(boxes.detach(), shift)

    def predict(self, layer: int, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """See `RefiningDecoder`."""
        return self.answer(content, boxes, mask_features)
