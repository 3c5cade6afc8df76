"""The training losses of PP-YOLOE_seg.

Shapes: B images, Q positions, N matched pairs, R bins of a side's distribution, (h, w) the mask map.
Source: PP-YOLOE, https://arxiv.org/abs/2203.16250, and https://github.com/PaddlePaddle/PaddleDetection/tree/666f597
(PPYOLOEInsHead).
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor

from ...layers.boxes import cells_inside, cxcywh_to_xyxy, iou_and_giou
from ...layers.precision import full_precision
from ...structures import AlignedMatch, GradientAccumulation, ModelOutput, PositionPrediction, Target
from .criterion import BatchTargets, mean_over_processes
from .functions import distribution_focal_loss, first_pixels, shrink_masks, varifocal_loss
from .matched_masks import MatchedMasks
from .whole_mask_criterion import WholeMaskCriterion

# Values of MODEL.LOSS.MASK_SHRINK.
MASK_SHRINKS = {"first_pixel": first_pixels, "bilinear": shrink_masks}


class TaskAlignedCriterion(WholeMaskCriterion):
    """Varifocal loss of the classes, GIoU and distribution losses of boxes, cross-entropy of masks within boxes."""

    @configurable
    def __init__(self, *, detach_weight: bool, mask_shrink: str, **shared):
        """Set up the criterion.

        Args:
            detach_weight: whether no gradient flows through the weight of negatives.
            mask_shrink: how the objects' masks are reduced to the mask map, one of `MASK_SHRINKS`.
            shared: arguments of `WholeMaskCriterion`; the matcher returns an `AlignedMatch` for each prediction.

        Raises:
            ValueError: `mask_shrink` is unknown.
        """
        super().__init__(**shared)
        if mask_shrink not in MASK_SHRINKS:
            raise ValueError(f"MODEL.LOSS.MASK_SHRINK must be one of {', '.join(MASK_SHRINKS)}, got {mask_shrink!r}.")
        self.shrink, self.detach_weight = MASK_SHRINKS[mask_shrink], detach_weight

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.LOSS.* and MODEL.MATCHER.*."""
        loss = cfg.MODEL.LOSS
        own = {"detach_weight": loss.VARIFOCAL_DETACH, "mask_shrink": loss.MASK_SHRINK}
        return super().from_config(cfg) | own

    @classmethod
    def read_weights(cls, loss: CfgNode) -> dict[str, float]:
        """Read the weight of each loss; see `WholeMaskCriterion.read_weights`."""
        return {
            "loss_vfl": loss.CLASS_WEIGHT,
            "loss_giou": loss.GIOU_WEIGHT,
            "loss_dfl": loss.DISTRIBUTION_WEIGHT,
            "loss_mask": loss.MASK_WEIGHT,
        }

    def forward(
        self, output: ModelOutput, targets: list[Target], accumulated: GradientAccumulation | None = None
    ) -> dict[str, Tensor]:
        """Compute the weighted losses loss_vfl, loss_giou, loss_dfl and loss_mask.

        They are sums over positions, or over matched pairs, divided by the sum of the pairs' qualities.  That sum is
        the mean over the processes, counts as at least 1, and depends on what is predicted.  Therefore batches whose
        gradients are accumulated are each divided by their own sum, and by the number of batches.

        Args:
            output: the model's predictions; the last layer is a `PositionPrediction`.
            targets: the objects of each image, with masks.
            accumulated: size of the accumulated batches; by default that of this batch.
        """
        batch, prediction = BatchTargets.join(targets), output.layers[-1]
        (match,) = self.matcher([prediction], targets)
        losses = {
            "loss_vfl": self._class_loss(prediction, match, batch),
            **_box_losses(prediction, match, batch),
            "loss_mask": self._mask_loss(prediction, match, batch),
        }
        normaliser = mean_over_processes(match.quality.sum()).clamp(min=1)
        num_batches = accumulated.num_batches if accumulated else 1
        return {name: loss * self.weights[name] / (normaliser * num_batches) for name, loss in losses.items()}

    def _class_loss(self, prediction: PositionPrediction, match: AlignedMatch, batch: BatchTargets) -> Tensor:
        logits = full_precision(prediction.class_logits)
        position = (match.image, match.query, batch.classes[batch.index(match)])
        target_scores = torch.zeros_like(logits).index_put(position, match.quality.to(logits))
        is_positive = torch.zeros_like(logits).index_put(position, logits.new_ones(())).bool()
        return varifocal_loss(logits, target_scores, is_positive, self.alpha, self.gamma, self.detach_weight)

    def _mask_loss(self, prediction: PositionPrediction, match: AlignedMatch, batch: BatchTargets) -> Tensor:
        """Return the sum of the cross-entropies of matched masks within the objects' boxes, per area of the box."""
        objects = batch.index(match)
        logits = MatchedMasks.join([(prediction, match)]).all_maps()
        height, width = logits.shape[1:]
        masks = self.shrink(batch.masks, (height, width))[objects].to(logits)
        boxes_cxcywh = batch.boxes_cxcywh[objects].to(logits)
        boxes = cxcywh_to_xyxy(boxes_cxcywh) * logits.new_tensor([width, height, width, height])
        losses = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        of_masks = (losses * cells_inside(boxes, height, width)).mean((1, 2))
        return (of_masks / boxes_cxcywh[:, 2:].prod(1)).sum()


def _box_losses(prediction: PositionPrediction, match: AlignedMatch, batch: BatchTargets) -> dict[str, Tensor]:
    """Return the sums of the losses of the matched boxes and of their sides, weighted by the pairs' qualities."""
    boxes = cxcywh_to_xyxy(full_precision(prediction.boxes_cxcywh)[match.image, match.query])
    wanted = cxcywh_to_xyxy(batch.boxes_cxcywh[batch.index(match)].to(boxes))
    _, giou = iou_and_giou(boxes, wanted)
    points, cells = prediction.query_points[match.image, match.query], prediction.cells[match.query]
    low, high = wanted.split(2, dim=1)
    distances = torch.cat([(points - low) / cells, (high - points) / cells], dim=1)
    side_logits = full_precision(prediction.side_logits[match.image, match.query])
    of_sides = distribution_focal_loss(side_logits, distances).mean(1)
    return {"loss_giou": ((1 - giou) * match.quality).sum(), "loss_dfl": (of_sides * match.quality).sum()}
