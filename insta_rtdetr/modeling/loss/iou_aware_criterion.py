"""The training losses of RF-DETR.

Source: https://github.com/roboflow/rf-detr, release 1.11.2
"""

import math

from torch import Tensor

from .criterion import SetCriterion
from .functions import iou_aware_bce_loss


class IoUAwareCriterion(SetCriterion):
    """`SetCriterion` with the IoU-aware binary cross-entropy as its class loss."""

    class_name = "loss_ce"
    bce_name = "loss_mask_ce"
    max_mask_logit = math.inf

    def class_loss(self, logits: Tensor, quality: Tensor, is_positive: Tensor) -> Tensor:
        """Sum the IoU-aware binary cross-entropy; see `SetCriterion.class_loss`."""
        return iou_aware_bce_loss(logits, quality, is_positive, self.alpha, self.gamma)
