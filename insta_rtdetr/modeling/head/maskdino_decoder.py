"""The decoder with shared heads as Mask DINO has it: sine codes of the boxes, and heads that read normalised queries.

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
    """Answers with queries that went through the norm once more than those that the next layer starts from."""

    def __init__(self, *, dim: int, **layers):
        """Build; see `SharedHeadDecoder`."""
        super().__init__(dim=dim, **layers)
        init_deformable_layers(self.layers)

    def build_position_head(self, dim: int) -> BoxPositionHead:
        """See `RefiningDecoder`."""
        return BoxPositionHead(dim)

    def run_layer(
        self, layer: int, content: Tensor, positions: Tensor, boxes: Tensor, memory: Memory,
        attention_mask: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """See `RefiningDecoder`; in full precision, whatever the heads compute in."""
        memory = Memory(full_precision(memory.tokens), memory.level_sizes)
        content, positions, boxes = (full_precision(values) for values in (content, positions, boxes))
        with torch.autocast(content.device.type, enabled=False):
            return super().run_layer(layer, content, positions, boxes, memory, attention_mask)

    def refine(self, layer: int, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """See `RefiningDecoder`; the answer's shift is that of the normalised queries, the next layer's is not."""
        answered = self.box_head(self.norm(content)) + inverse_sigmoid(boxes)
        following = self.box_head(content) + inverse_sigmoid(boxes.detach())
        return answered.sigmoid(), following.sigmoid()

    def predict(self, layer: int, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """See `RefiningDecoder`; the heads normalise again."""
        return self.answer(self.norm(content), boxes, mask_features)
