"""The training losses of SOLOv2.

Shapes: B images, Q cells of all grids, K classes, N pairs of a cell and an object.
Source: SOLOv2, https://arxiv.org/abs/2003.10152
"""

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...layers.precision import full_precision
from ...structures import GradientAccumulation, Match, ModelOutput, Target
from .criterion import BatchTargets, mean_over_processes
from .functions import shrink_masks, squared_dice_loss
from .matched_masks import MatchedMasks
from .whole_mask_criterion import WholeMaskCriterion

# Added to the denominator of the dice loss.
DICE_SMOOTHING = 2e-3


class GridCriterion(WholeMaskCriterion):
    """Focal loss of the classes of all cells, and dice loss of the masks of those that are paired with objects."""

    @classmethod
    def read_weights(cls, loss: CfgNode) -> dict[str, float]:
        """Read the weight of each loss; see `WholeMaskCriterion.read_weights`."""
        return {
            "loss_ce": loss.CLASS_WEIGHT,
            "loss_dice": loss.DICE_WEIGHT,
        }

    def forward(
        self, output: ModelOutput, targets: list[Target], accumulated: GradientAccumulation | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted losses loss_ce and loss_dice.

        The first is a sum divided by the number of cells with objects plus 1, the second a mean over the pairs whose
        object has pixels on the mask map.  Both numbers are those of the batch, whatever is `accumulated`.
        """
        batch, prediction = BatchTargets.join(targets), output.layers[-1]
        (match,) = self.matcher([prediction], targets)
        objects = batch.index(match)
        losses = {
            "loss_ce": self._class_loss(full_precision(prediction.class_logits), match, batch.classes[objects]),
            "loss_dice": _dice_loss(MatchedMasks.join([(prediction, match)]), batch.masks, objects),
        }
        return {name: loss * self.weights[name] for name, loss in losses.items()}

    def _class_loss(self, logits: Tensor, match: Match, classes: Tensor) -> Tensor:
        is_owner = owns_cell(match, logits.shape).to(logits)
        position = (match.image, match.query, classes)
        is_positive = torch.zeros_like(logits).index_put(position, is_owner, accumulate=True)
        return self.focal_loss(logits, is_positive) / (mean_over_processes(is_owner.sum()) + 1)


def owns_cell(match: Match, shape: torch.Size) -> Tensor:
    """Return for each pair (N,) whether its object is the one whose class the cell learns: the last of several.

    Args:
        match: the pairs.
        shape: (B, Q, K).
    """
    cells = match.image * shape[1] + match.query
    nobody = match.object.new_full((shape[0] * shape[1],), -1)
    return nobody.scatter_reduce(0, cells, match.object, "amax")[cells] == match.object


def _dice_loss(predicted: MatchedMasks, masks: Tensor, objects: Tensor) -> Tensor:
    """Return the mean dice loss of N predicted masks, whose objects (N,) have masks (T, H, W).

    Masks without pixels on the map count nothing.
    """
    wanted = (shrink_masks(masks, predicted.size) >= 0.5)[objects].flatten(1)
    has_pixels = wanted.any(1)
    logits = predicted.all_maps().flatten(1)
    losses = squared_dice_loss(logits, wanted.to(logits), DICE_SMOOTHING)
    return (losses * has_pixels).sum() / mean_over_processes(has_pixels.to(losses).sum()).clamp(min=1)
