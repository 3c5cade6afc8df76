"""The training losses of RF-DETR.

Source: https://github.com/roboflow/rf-detr, release 1.11.2
"""

import math

from torch import Tensor

from .criterion import SetCriterion
from .functions import iou_aware_bce_loss


class IoUAwareCriterion(SetCriterion):
    """IoU-aware cross-entropy of the classes; L1, GIoU and mask losses as `SetCriterion` has them, for each group."""

    class_name = "loss_ce"
    bce_name = "loss_mask_ce"
    max_mask_logit = math.inf

    def class_loss(self, logits: Tensor, quality: Tensor, is_positive: Tensor) -> Tensor:
        """See `SetCriterion.class_loss`."""
        return iou_aware_bce_loss(logits, quality, is_positive, self.alpha, self.gamma)
