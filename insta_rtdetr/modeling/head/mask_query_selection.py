"""The positions of the pyramid that look most like an object become queries that start where their masks are.

Shapes: B images, S positions of all levels together, Q queries, C channels, (h, w) the mask map.
"""

import torch
from torch import Tensor

from ...layers.boxes import boxes_of_occupied, inverse_sigmoid, xyxy_to_cxcywh
from ...layers.chunks import masks_at_a_time
from ...structures import Memory, Prediction, Queries
from .query_selection import TokenSelection
from .shared_head_decoder import SharedHeadDecoder


class MaskQuerySelection(TokenSelection):
    """Starts a query from each of the best positions, with the box around the mask it predicts.

    Source: Mask DINO, https://arxiv.org/abs/2206.02777
    """

    def __init__(self, *selection, mask_enhanced: bool = True, last_cell: bool = True, **more):
        """Build.

        Args:
            mask_enhanced: False: queries start with the box that their position predicts.
            last_cell: see `boxes_of_masks`.
            selection, more: see `TokenSelection`.
        """
        super().__init__(*selection, **more)
        self.mask_enhanced, self.last_cell = mask_enhanced, last_cell

    def forward(
        self, memory: Memory, mask_features: Tensor | None, decoder: SharedHeadDecoder
    ) -> tuple[Queries, Prediction]:
        """Select.

        Args:
            memory: (B, S, C) tokens.
            mask_features: (B, C_mask, h, w), projected; None: no masks are wanted, nor `mask_enhanced`.
            decoder: its heads are those of the positions too.

        Returns:
            Q queries (detached), and what their positions predict by themselves.
        """
        tokens, _, anchor_logits = self.select(memory, decoder.class_head)
        boxes = (decoder.box_head(tokens) + anchor_logits).sigmoid()
        prediction = decoder.answer(tokens, boxes, mask_features)
        start = boxes_of_masks(prediction, self.last_cell) if self.mask_enhanced else boxes.detach()
        return Queries(tokens.detach(), inverse_sigmoid(start)), prediction


@torch.no_grad()
def boxes_of_masks(prediction: Prediction, last_cell: bool = True) -> Tensor:
    """(B, Q, 4), cxcywh of the smallest boxes around the predicted masks.

    Args:
        prediction: with masks.
        last_cell: True: boxes end where the last column and row of a mask end; that of an empty mask is the upper left
            corner.  False: they end where these begin; that of an empty mask is the lower right corner.
    """
    height, width = prediction.mask_features.shape[2:]
    step = masks_at_a_time(height, width, prediction.mask_features.device)
    boxes = []
    for start in range(0, prediction.mask_embeddings.shape[1], step):
        logits = prediction.slice_queries(slice(start, start + step)).mask_logits
        boxes.append(boxes_of_occupied(logits.amax(2) > 0, logits.amax(3) > 0))
    pixels = torch.cat(boxes, dim=1)
    # In the precision of the predicted boxes: that of masks may be half.
    sides = prediction.boxes_cxcywh.new_tensor([width, height, width, height])
    pixels = pixels.to(sides)
    if not last_cell:
        is_empty = pixels[..., 2:3] == 0
        pixels = torch.where(is_empty, sides, pixels - pixels.new_tensor([0, 0, 1, 1]))
    return xyxy_to_cxcywh(pixels / sides)
