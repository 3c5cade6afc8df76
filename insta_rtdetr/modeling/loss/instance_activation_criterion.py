"""The training losses of SparseInst.

Shapes: B images, Q queries, N matched pairs, (h, w) the mask map.
Source: SparseInst, https://arxiv.org/abs/2203.12827
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor

from ...layers.precision import full_precision
from ...structures import GradientAccumulation, Match, ModelOutput, Prediction, Target
from .criterion import BatchTargets, count_objects
from .functions import mask_bce_loss, shrink_masks, squared_dice_loss
from .matched_masks import MatchedMasks
from .whole_mask_criterion import WholeMaskCriterion

# Probability from which a pixel counts as predicted, in the overlap that the objectness learns.
OVERLAP_THRESHOLD = 0.4


class InstanceActivationCriterion(WholeMaskCriterion):
    """Focal loss of the classes, cross-entropy and dice loss of whole masks; the objectness learns their overlap."""

    @classmethod
    def read_weights(cls, loss: CfgNode) -> dict[str, float]:
        """Read the weight of each loss; see `WholeMaskCriterion.read_weights`."""
        return {
            "loss_ce": loss.CLASS_WEIGHT,
            "loss_mask": loss.MASK_WEIGHT,
            "loss_dice": loss.DICE_WEIGHT,
            "loss_objectness": loss.OBJECTNESS_WEIGHT,
        }

    def forward(
        self, output: ModelOutput, targets: list[Target], accumulated: GradientAccumulation | None = None
    ) -> dict[str, Tensor]:
        """Weighted losses of the only layer: loss_ce, loss_mask, loss_dice and loss_objectness.

        They are sums over the queries or the matched pairs, divided by the mean number of objects a process has; a
        pair's cross-entropy is the mean over the pixels of the map.
        """
        batch, prediction = BatchTargets.join(targets), output.layers[-1]
        (match,) = self.matcher([prediction], targets)
        objects = batch.index(match)
        logits = MatchedMasks.join([(prediction, match)]).all_maps().flatten(1)
        masks = shrink_masks(batch.masks, prediction.mask_features.shape[2:])[objects].flatten(1).to(logits)
        objectness = full_precision(prediction.objectness_logits)[match.image, match.query]
        losses = {
            "loss_ce": self._class_loss(prediction, match, batch.classes[objects]),
            "loss_mask": mask_bce_loss(logits, masks).sum(),
            "loss_dice": squared_dice_loss(logits, masks).sum(),
            "loss_objectness": F.binary_cross_entropy_with_logits(objectness, overlap(logits, masks), reduction="sum"),
        }
        num_objects = count_objects(batch, accumulated)
        return {name: loss * self.weights[name] / num_objects for name, loss in losses.items()}

    def _class_loss(self, prediction: Prediction, match: Match, classes: Tensor) -> Tensor:
        logits = full_precision(prediction.class_logits)
        position = (match.image, match.query, classes)
        is_positive = torch.zeros_like(logits).index_put(position, logits.new_ones(()))
        return self.focal_loss(logits, is_positive)


@torch.no_grad()
def overlap(logits: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union (N,) of predicted and wanted masks, (N, h * w) each; 0 if both are empty."""
    predicted, wanted = logits.sigmoid() >= OVERLAP_THRESHOLD, masks > 0.5
    intersection, union = ((a.sum(1).to(logits)) for a in (predicted & wanted, predicted | wanted))
    return intersection / (union + 1e-6)
