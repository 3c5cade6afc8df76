"""Which query answers for which object.

Letters: B images, Q queries, T objects of an image, P points, C channels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.utils.registry import Registry
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ...layers.boxes import cxcywh_to_xyxy, iou_and_giou
from ...layers.point_sampling import sample_masks, sample_points
from ...structures import Prediction, Target
from .functions import focal_cost, mask_bce_cost, mask_dice_cost

MATCHER_REGISTRY = Registry("MATCHER")
MATCHER_REGISTRY.__doc__ = "Matchers: called with (predictions, targets), they give one `Match` for each prediction."


def build_matcher(cfg) -> nn.Module:
    """Build the matcher MODEL.MATCHER.NAME."""
    return MATCHER_REGISTRY.get(cfg.MODEL.MATCHER.NAME)(cfg)


@dataclass
class Match:
    """Pairs of queries and objects of a whole batch.

    Attributes:
        image: (N,), index of the image in the batch.
        query: (N,), index of the query.
        object: (N,), index of the object within its image.
    """

    image: Tensor
    query: Tensor
    object: Tensor

    @classmethod
    def from_images(cls, pairs: list[tuple[Tensor, Tensor]], device: torch.device) -> "Match":
        """Join one (query, object) pair of index tensors for each image."""
        image = torch.cat([torch.full_like(torch.as_tensor(query), i) for i, (query, _) in enumerate(pairs)])
        query = torch.cat([torch.as_tensor(query) for query, _ in pairs])
        target = torch.cat([torch.as_tensor(target) for _, target in pairs])
        return cls(image.long().to(device), query.long().to(device), target.long().to(device))

    def __len__(self) -> int:
        return len(self.query)


@MATCHER_REGISTRY.register()
class HungarianMatcher(nn.Module):
    """One-to-one assignment of least total cost: class, box distance, box overlap, and masks compared at points."""

    @configurable
    def __init__(
        self, *, class_cost: float, box_cost: float, giou_cost: float, mask_cost: float, dice_cost: float,
        num_points: int,
    ):  # fmt: skip
        super().__init__()
        self.class_cost, self.box_cost, self.giou_cost = class_cost, box_cost, giou_cost
        self.mask_cost, self.dice_cost, self.num_points = mask_cost, dice_cost, num_points

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.MATCHER.*."""
        matcher = cfg.MODEL.MATCHER
        return {
            "class_cost": matcher.CLASS_COST,
            "box_cost": matcher.BOX_COST,
            "giou_cost": matcher.GIOU_COST,
            "mask_cost": matcher.MASK_COST,
            "dice_cost": matcher.DICE_COST,
            "num_points": matcher.NUM_POINTS,
        }

    @torch.no_grad()
    def forward(self, predictions: list[Prediction], targets: list[Target]) -> list[Match]:
        """Match every prediction (for example every decoder layer) with the same targets.

        Returns:
            One match for each prediction; min(Q, T) pairs for each image.
        """
        costs = [self._image_costs(i, predictions, target) for i, target in enumerate(targets)]
        device = predictions[0].class_logits.device
        # All costs travel to the host at once: the copies, not the assignments, would take the time.
        on_host = torch.cat([cost.flatten() for cost in costs]).cpu().numpy() if costs else np.zeros(0)
        sizes = [cost.numel() for cost in costs]
        by_image = [
            part.reshape(cost.shape) for part, cost in zip(np.split(on_host, np.cumsum(sizes)[:-1]), costs, strict=True)
        ]
        return [
            Match.from_images([linear_sum_assignment(image[layer]) for image in by_image], device)
            for layer in range(len(predictions))
        ]

    def _image_costs(self, image: int, predictions: list[Prediction], target: Target) -> Tensor:
        """(number of predictions, Q, T)."""
        points = self._sample_target(target, predictions[0].boxes_cxcywh)
        features_at_points = {}
        layers = []
        for prediction in predictions:
            cost = self._box_and_class_cost(prediction, image, target)
            if points is not None and prediction.mask_embeddings is not None:
                features = prediction.mask_features
                if id(features) not in features_at_points:
                    sampled = sample_points(features[image : image + 1], points[0][None].to(features))
                    features_at_points[id(features)] = full_precision(sampled[0])
                cost = cost + self._mask_cost(prediction, image, features_at_points[id(features)], points[1])
            layers.append(cost)
        # The assignment has no answer for NaN or infinity.  The losses keep them, so that the trainer sees them.
        return torch.nan_to_num(torch.stack(layers), nan=1e5, posinf=1e5, neginf=-1e5)

    def _sample_target(self, target: Target, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Points (P, 2) and labels (T, P) of the target masks there; None if there are no masks."""
        if target.masks is None or len(target) == 0:
            return None
        options = {"device": like.device, "dtype": full_precision(like).dtype}
        points = torch.rand(self.num_points, 2, **options)
        every_mask = torch.arange(len(target), device=like.device)
        return points, sample_masks(target.masks, every_mask, points[None])

    def _box_and_class_cost(self, prediction: Prediction, image: int, target: Target) -> Tensor:
        logits = full_precision(prediction.class_logits[image])
        boxes = full_precision(prediction.boxes_cxcywh[image])[:, None]
        target_boxes = target.boxes_cxcywh.to(boxes)[None]
        distance = (boxes - target_boxes).abs().sum(-1)
        _, giou = iou_and_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes))
        class_cost = focal_cost(logits, target.classes)
        return self.class_cost * class_cost + self.box_cost * distance - self.giou_cost * giou

    def _mask_cost(self, prediction: Prediction, image: int, features: Tensor, labels: Tensor) -> Tensor:
        """Sampling is linear: the features are sampled, (C, P), and never a map for each query made."""
        logits = full_precision(prediction.mask_embeddings[image]) @ features
        if prediction.mask_biases is not None:
            logits = logits + full_precision(prediction.mask_biases[image])[:, None]
        return self.mask_cost * mask_bce_cost(logits, labels) + self.dice_cost * mask_dice_cost(logits, labels)


def full_precision(values: Tensor) -> Tensor:
    """float32, or float64 where it is that already: costs and losses overflow or vanish in half precision."""
    return values if values.dtype == torch.float64 else values.float()
