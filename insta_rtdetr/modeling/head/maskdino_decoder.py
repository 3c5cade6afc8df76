"""Mask DINO's decoder: the decoder with shared heads, with sine position embeddings of the boxes.

Source: Mask DINO, https://arxiv.org/abs/2206.02777 and https://github.com/IDEA-Research/MaskDINO/tree/3831d85
"""

import torch
from torch import Tensor

from ...layers.boxes import inverse_sigmoid
from ...layers.deformable_attention import init_deformable_layers
from ...layers.position_encoding import BoxPositionHead
from ...layers.precision import full_precision
from ...structures import Memory, Prediction
from .shared_head_decoder import SharedHeadDecoder


class MaskDINODecoder(SharedHeadDecoder):
    """Decoder with shared heads that predicts from normalised queries; its next layer gets them unnormalised."""

    def __init__(self, *, dim: int, **layers):
        """Build the layers and heads; see `SharedHeadDecoder`."""
        super().__init__(dim=dim, **layers)
        init_deformable_layers(self.layers)

    def build_position_head(self, dim: int) -> BoxPositionHead:
        """Build sine position embeddings; see `RefiningDecoder`."""
        return BoxPositionHead(dim)

    def run_layer(
        self, layer: int, content: Tensor, positions: Tensor, boxes: Tensor, memory: Memory,
        attention_mask: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Run one layer in full precision, even under autocast; see `RefiningDecoder`."""
        memory = Memory(full_precision(memory.tokens), memory.level_sizes)
        content, positions, boxes = (full_precision(values) for values in (content, positions, boxes))
        with torch.autocast(content.device.type, enabled=False):
            return super().run_layer(layer, content, positions, boxes, memory, attention_mask)

    def refine(self, layer: int, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from the normalised queries, and the next layer's boxes from unnormalised; see `RefiningDecoder`."""
        predicted_logits = self.box_head(self.norm(content)) + inverse_sigmoid(boxes)
        next_logits = self.box_head(content) + inverse_sigmoid(boxes.detach())
        return predicted_logits.sigmoid(), next_logits.sigmoid()

    def predict(self, layer: int, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """Predict from the normalised queries, which the heads normalise a second time; see `RefiningDecoder`."""
        return self.forward_prediction_heads(self.norm(content), boxes, mask_features)
