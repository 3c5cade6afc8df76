"""Decoder with one set of heads, which predict before the first layer and after every layer.

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
    """Decoder with one norm, class head, box head and mask head for all layers and for the positions of the pyramid."""

    def __init__(self, *, dim: int, num_classes: int, **layers):
        """Build the layers and heads.

        Args:
            dim: width `C` of a query.
            num_classes: number of classes.
            layers: more arguments of `RefiningDecoder`.
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
        """Run the layers; in training, the predictions before the first layer come first.  See `RefiningDecoder`."""
        layers = super().forward(queries, memory, mask_features, attention_mask)
        if not self.training:
            return layers
        boxes = queries.reference_logits.sigmoid()
        return [self.forward_prediction_heads(queries.content, boxes, mask_features), *layers]

    def forward_prediction_heads(self, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """Predict classes and masks of queries.

        Args:
            content: (B, Q, C), features of the queries.
            boxes: (B, Q, 4), cxcywh, which are copied to the prediction.
            mask_features: (B, C_mask, h, w), projected by the mask head; None to predict no masks.
        """
        content = self.norm(content)
        return Prediction(self.class_head(content), boxes, *masks_of(self.mask_head, content, mask_features))

    def refine(self, layer: int, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Refine boxes so that they get gradients from the next layer but not from later ones; see `RefiningDecoder`.

        DINO (https://arxiv.org/abs/2203.03605) calls this "look forward twice".
        """
        shift = self.box_head(content)
        return shift_logits(boxes, shift), shift_logits(boxes.detach(), shift)

    def predict(self, layer: int, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """Predict with the shared heads; see `RefiningDecoder`."""
        return self.forward_prediction_heads(content, boxes, mask_features)
