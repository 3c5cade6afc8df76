"""The training losses of Mask DINO.

Source: Mask DINO, https://arxiv.org/abs/2206.02777 and https://github.com/IDEA-Research/MaskDINO/tree/3831d85
"""

import math

from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from .criterion import SetCriterion


class FocalCriterion(SetCriterion):
    """`SetCriterion` with the focal loss as its class loss."""

    class_name = "loss_ce"
    bce_name = "loss_mask"
    dice_name = "loss_dice"
    max_mask_logit = math.inf

    def class_loss(self, logits: Tensor, quality: Tensor, is_positive: Tensor) -> Tensor:
        """Sum the focal loss, which ignores the quality; see `SetCriterion.class_loss`."""
        return sigmoid_focal_loss(logits, is_positive.to(logits), self.alpha, self.gamma, reduction="sum")
