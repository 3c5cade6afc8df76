"""Which positions of a pyramid learn to predict each object: those whose classes and boxes agree with it best.

Shapes: Q positions, T objects of an image, N pairs.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ...layers.boxes import cxcywh_to_xyxy, iou_and_giou
from ...layers.precision import full_precision
from ...structures import AlignedMatch, Match, Prediction, Target
from .matcher import MATCHER_REGISTRY

# Keeps the quality finite of an object that no position agrees with at all.
SMALLEST = 1e-9


@MATCHER_REGISTRY.register()
class TaskAlignedMatcher(nn.Module):
    """Assignment of several positions to each object, by class probability ** alpha * IoU of the boxes ** beta.

    A position's point must lie within the object's box.  A position that is among the best of several objects gets the
    object of highest IoU; as in PaddleDetection, that may be an object whose best positions it is not among.

    Source: TOOD, https://arxiv.org/abs/2108.07755
    """

    @configurable
    def __init__(self, *, class_exponent: float, iou_exponent: float, num_positions: int):
        """Set up the matcher.

        Args:
            class_exponent: exponent `alpha` of the class probability.
            iou_exponent: exponent `beta` of the IoU.
            num_positions: number of positions that may be assigned to each object.
        """
        super().__init__()
        self.class_exponent, self.iou_exponent, self.num_positions = class_exponent, iou_exponent, num_positions

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.MATCHER.{CLASS_COST, GIOU_COST, NUM_POSITIONS}."""
        matcher = cfg.MODEL.MATCHER
        return {
            "class_exponent": matcher.CLASS_COST,
            "iou_exponent": matcher.GIOU_COST,
            "num_positions": matcher.NUM_POSITIONS,
        }

    @torch.no_grad()
    def forward(self, predictions: list[Prediction], targets: list[Target]) -> list[AlignedMatch]:
        """Match every prediction, which must have query points, with the same targets.

        Returns:
            one match for each prediction, in which a position occurs at most once.
        """
        return [self._match(prediction, targets) for prediction in predictions]

    def _match(self, prediction: Prediction, targets: list[Target]) -> AlignedMatch:
        found = [self._assign_image(prediction, i, target) for i, target in enumerate(targets)]
        match = Match.from_images([pair for pair, _ in found], prediction.class_logits.device)
        return AlignedMatch(match.image, match.query, match.object, torch.cat([quality for _, quality in found]))

    def _assign_image(
        self, prediction: Prediction, image: int, target: Target
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return the pairs (positions, objects) of an image, and their quality (N,)."""
        boxes = cxcywh_to_xyxy(full_precision(prediction.boxes_cxcywh[image]))
        wanted = cxcywh_to_xyxy(target.boxes_cxcywh.to(boxes))
        probs = full_precision(prediction.class_logits[image]).sigmoid()[:, target.classes]
        iou, _ = iou_and_giou(boxes[:, None], wanted[None])
        alignment = probs**self.class_exponent * iou**self.iou_exponent  # (Q, T)
        is_inside = _are_inside(prediction.query_points[image], wanted)
        best = (alignment * is_inside).topk(min(self.num_positions, len(boxes)), dim=0).indices
        is_assigned = torch.zeros_like(is_inside).scatter(0, best, True) & is_inside
        is_contested = is_assigned.sum(1, keepdim=True) > 1
        if len(target):
            is_nearest = F.one_hot(iou.argmax(1), len(target)).bool()
            is_assigned = torch.where(is_contested, is_nearest, is_assigned)
        # Of an object's positions, the one that agrees best gets the highest IoU as its quality.
        alignment, iou = alignment * is_assigned, iou * is_assigned
        quality = alignment / (alignment.amax(0) + SMALLEST) * iou.amax(0)
        positions, objects = is_assigned.nonzero(as_tuple=True)
        return (positions, objects), quality[positions, objects]


def _are_inside(points: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Return which points (Q, 2) lie within which boxes (T, 4): (Q, T), bool."""
    low, high = boxes_xyxy.split(2, dim=1)
    points = points[:, None]
    return ((points > low) & (points < high)).all(-1)
