"""Mask DINO's query selection: queries start with the boxes around the masks that their positions predict.

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
    """Makes a query from each selected position, with the box around the mask that the position predicts.

    Source: Mask DINO, https://arxiv.org/abs/2206.02777
    """

    def __init__(self, *selection, mask_enhanced: bool = True, last_cell: bool = True, **more):
        """Build the selection.

        Args:
            mask_enhanced: whether queries start with the box around the mask, instead of with the predicted box.
            last_cell: see `boxes_of_masks`.
            selection, more: arguments of `TokenSelection`.
        """
        super().__init__(*selection, **more)
        self.mask_enhanced, self.last_cell = mask_enhanced, last_cell

    def forward(
        self, memory: Memory, mask_features: Tensor | None, decoder: SharedHeadDecoder
    ) -> tuple[Queries, Prediction]:
        """Select the queries.

        Args:
            memory: the pyramid's tokens.
            mask_features: (B, C_mask, h, w), projected; None to predict no masks, which `mask_enhanced` does not allow.
            decoder: the decoder, whose heads predict for the positions too.

        Returns:
            Q queries, detached, and the predictions of their positions.
        """
        tokens, _, anchor_logits = self.select(memory, decoder.class_head)
        boxes = (decoder.box_head(tokens) + anchor_logits).sigmoid()
        prediction = decoder.forward_prediction_heads(tokens, boxes, mask_features)
        start = boxes_of_masks(prediction, self.last_cell) if self.mask_enhanced else boxes.detach()
        return Queries(tokens.detach(), inverse_sigmoid(start)), prediction


@torch.no_grad()
def boxes_of_masks(prediction: Prediction, last_cell: bool = True) -> Tensor:
    """Return the smallest boxes around the predicted masks: (B, Q, 4), cxcywh.

    Args:
        prediction: a prediction with masks.
        last_cell: whether boxes contain the last column and row of a mask, or end where these begin, as Mask DINO's
            mask2box.  The box of an empty mask is the upper left corner if True, and the lower right corner if False.
    """
    height, width = prediction.mask_features.shape[2:]
    step = masks_at_a_time(height, width, prediction.mask_features.device)
    boxes = []
    for start in range(0, prediction.mask_embeddings.shape[1], step):
        logits = prediction.slice_queries(slice(start, start + step)).mask_logits
        boxes.append(boxes_of_occupied(logits.amax(2) > 0, logits.amax(3) > 0))
    pixels = torch.cat(boxes, dim=1)
    # Boxes are computed in the precision of the predicted boxes, because masks may have half precision.
    sides = prediction.boxes_cxcywh.new_tensor([width, height, width, height])
    pixels = pixels.to(sides)
    if not last_cell:
        is_empty = pixels[..., 2:3] == 0
        pixels = torch.where(is_empty, sides, pixels - pixels.new_tensor([0, 0, 1, 1]))
    return xyxy_to_cxcywh(pixels / sides)
