"""Matchers, which assign queries to objects.

Shapes: B images, Q queries, T objects of an image, P points, C channels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from ...layers.boxes import cxcywh_to_xyxy, iou_and_giou
from ...layers.point_sampling import place_in_regions, regions_around, sample_masks, sample_points
from ...layers.precision import full_precision
from ...layers.tokens import project_tokens
from ...structures import Match, Prediction, Target
from .functions import focal_cost, mask_bce_cost, mask_dice_cost

MATCHER_REGISTRY = Registry("MATCHER")
MATCHER_REGISTRY.__doc__ = "Matchers: called with (predictions, targets), they return one `Match` for each prediction."


def build_matcher(cfg) -> nn.Module:
    """Build the matcher MODEL.MATCHER.NAME."""
    return MATCHER_REGISTRY.get(cfg.MODEL.MATCHER.NAME)(cfg)


class MaskMatcher(nn.Module):
    """One-to-one assignment of lowest total cost, with mask costs at sampled points.  Subclasses add other costs."""

    def __init__(
        self, *, mask_cost: float, dice_cost: float, num_points: int, sample_inside: bool = False,
        point_region: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.mask_cost, self.dice_cost, self.num_points = mask_cost, dice_cost, num_points
        self.sample_inside, self.point_region = sample_inside, point_region

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments that all matchers share from MODEL.MATCHER.* and MODEL.LOSS.SAMPLE_INSIDE."""
        matcher = cfg.MODEL.MATCHER
        return {
            "mask_cost": matcher.MASK_COST,
            "dice_cost": matcher.DICE_COST,
            "num_points": matcher.NUM_POINTS,
            "sample_inside": cfg.MODEL.LOSS.SAMPLE_INSIDE,
            "point_region": matcher.POINT_REGION,
        }

    def query_cost(self, prediction: Prediction, image: int, target: Target) -> Tensor:
        """Return the costs (Q, T) of an image without those of masks."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(
        self, predictions: list[Prediction], targets: list[Target], groups: int = 1, repeats: int = 1
    ) -> list[Match]:
        """Match every prediction (for example every decoder layer) with the same targets.

        Args:
            predictions: predictions with the same number of queries.
            targets: the objects of each image.
            groups: number of equal, consecutive parts of the queries, each of which is matched with all objects.
            repeats: number of queries that are matched with each object, if the group has enough queries.

        Returns:
            one match for each prediction, with groups * min(Q / groups, repeats * T) pairs for each image.
        """
        costs = [self._image_costs(i, predictions, target) for i, target in enumerate(targets)]
        return assign(costs, predictions[0].class_logits.device, groups, repeats)

    def _image_costs(self, image: int, predictions: list[Prediction], target: Target) -> Tensor:
        """Return the costs of an image: (number of predictions, Q, T)."""
        points = self._sample_target(target, predictions[0])
        features_at_points = {}
        layers = []
        for prediction in predictions:
            cost = self.query_cost(prediction, image, target)
            if points is not None and prediction.mask_embeddings is not None:
                features = prediction.mask_features
                if id(features) not in features_at_points:
                    at = points[0][None].to(features)
                    sampled = sample_points(features[image : image + 1], at, self.sample_inside)
                    features_at_points[id(features)] = full_precision(sampled[0].T).contiguous()
                cost = cost + self._mask_cost(prediction, image, features_at_points[id(features)], points[1])
            layers.append(cost)
        return torch.stack(layers)

    def _sample_target(self, target: Target, prediction: Prediction) -> tuple[Tensor, Tensor] | None:
        """Sample points (P, 2) and the labels (T, P) of the target masks there; return None if there are no masks."""
        if target.masks is None or len(target) == 0 or not prediction.has_masks:
            return None
        like = prediction.mask_features
        options = {"device": like.device, "dtype": full_precision(like).dtype}
        points = torch.rand(num_points_of(like.shape[2:], self.num_points), 2, **options)
        if self.point_region:
            self._gather_around_objects(points, target)
        every_mask = torch.arange(len(target), device=like.device)
        return points, sample_masks(target.masks, every_mask, points[None], self.sample_inside)

    def _gather_around_objects(self, points: Tensor, target: Target) -> None:
        """Move the first half of the points, in place, into regions around the objects."""
        moved = points[: len(points) // 2]
        owner = torch.arange(len(moved), device=points.device) % len(target)
        regions = regions_around(target.boxes_cxcywh.to(points), self.point_region)
        moved.copy_(place_in_regions(moved, regions[owner]))

    def _mask_cost(self, prediction: Prediction, image: int, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mask costs (Q, T) from the mask features at points (P, C) and the labels (T, P).

        Because sampling is linear, sampled features give the logits at the points without a mask map for each query.
        """
        biases = None if prediction.mask_biases is None else full_precision(prediction.mask_biases[image])
        logits = project_tokens(features[None], full_precision(prediction.mask_embeddings[image]), biases)[0].T
        return self.mask_cost * mask_bce_cost(logits, labels) + self.dice_cost * mask_dice_cost(logits, labels)


@MATCHER_REGISTRY.register()
class HungarianMatcher(MaskMatcher):
    """Matcher whose costs are those of the class, the L1 distance and the GIoU of the boxes, and the masks."""

    @configurable
    def __init__(self, *, class_cost: float, box_cost: float, giou_cost: float, **masks):
        super().__init__(**masks)
        self.class_cost, self.box_cost, self.giou_cost = class_cost, box_cost, giou_cost

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.MATCHER.* and MODEL.LOSS.SAMPLE_INSIDE."""
        matcher = cfg.MODEL.MATCHER
        return super().from_config(cfg) | {
            "class_cost": matcher.CLASS_COST,
            "box_cost": matcher.BOX_COST,
            "giou_cost": matcher.GIOU_COST,
        }

    def query_cost(self, prediction: Prediction, image: int, target: Target) -> Tensor:
        """Return the class and box costs (Q, T) of an image."""
        logits = full_precision(prediction.class_logits[image])
        boxes = full_precision(prediction.boxes_cxcywh[image])[:, None]
        target_boxes = target.boxes_cxcywh.to(boxes)[None]
        distance = (boxes - target_boxes).abs().sum(-1)
        _, giou = iou_and_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes))
        class_cost = focal_cost(logits, target.classes)
        return self.class_cost * class_cost + self.box_cost * distance - self.giou_cost * giou


@MATCHER_REGISTRY.register()
class LocationMatcher(MaskMatcher):
    """Matcher whose costs are those of the class, the location and the masks: a query's point should lie in the object.

    Source: FastInst, https://arxiv.org/abs/2303.08594
    """

    @configurable
    def __init__(self, *, class_cost: float, location_cost: float, **masks):
        super().__init__(**masks)
        self.class_cost, self.location_cost = class_cost, location_cost

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.MATCHER.* and MODEL.LOSS.SAMPLE_INSIDE."""
        matcher = cfg.MODEL.MATCHER
        return super().from_config(cfg) | {"class_cost": matcher.CLASS_COST, "location_cost": matcher.LOCATION_COST}

    def query_cost(self, prediction: Prediction, image: int, target: Target) -> Tensor:
        """Return the class and location costs (Q, T) of an image."""
        points = full_precision(prediction.query_points[image])
        every_mask = torch.arange(len(target), device=points.device)
        is_inside = sample_masks(target.masks, every_mask, points[None]).T > 0
        return self._cost(prediction.class_logits[image], is_inside, target)

    @torch.no_grad()
    def match_proposals(self, proposal_logits: Tensor, targets: list[Target]) -> Match:
        """Match the positions of the proposal map with objects; the location cost is lower where a mask covers a pixel.

        Args:
            proposal_logits: (B, K + 1, h, w), before softmax.
            targets: the objects of each image.

        Returns:
            pairs whose queries are positions, counted row by row.
        """
        costs = []
        for logits, target in zip(proposal_logits, targets, strict=True):
            is_inside = F.adaptive_max_pool2d(target.masks.float(), logits.shape[1:]).flatten(1).T > 0
            costs.append(self._cost(logits.flatten(1).T, is_inside, target)[None])
        return assign(costs, proposal_logits.device)[0]

    def _cost(self, logits: Tensor, is_inside: Tensor, target: Target) -> Tensor:
        """Return the costs (Q, T) from class logits (Q, K + 1) and whether queries are inside objects (Q, T)."""
        probs = full_precision(logits).softmax(-1)[:, target.classes]
        return -self.class_cost * probs - self.location_cost * is_inside.to(probs)


def num_points_of(map_size: tuple[int, int], wanted: int) -> int:
    """Return the number of points at which masks are compared.

    Args:
        map_size: (height, width) of the mask map in cells.
        wanted: the number; 0 for one point for 16 cells, but at least as many as the map's height.
    """
    height, width = map_size
    return wanted or max(height, height * width // 16)


def assign(costs: list[Tensor], device: torch.device, groups: int = 1, repeats: int = 1) -> list[Match]:
    """Solve the assignments of L predictions.

    Args:
        costs: for each image, the costs (L, Q, T).
        device: device of the matches.
        groups: number of equal, consecutive parts of the queries that are assigned separately.
        repeats: number of queries for each object.

    Returns:
        one match for each prediction.
    """
    # The assignment cannot handle NaN or infinity.  The losses keep them, so that the trainer sees them.
    finite = [torch.nan_to_num(cost, nan=1e5, posinf=1e5, neginf=-1e5) for cost in costs]
    # All costs are copied to the host at once, because separate copies would take longer than the assignments.
    on_host = torch.cat([cost.flatten() for cost in finite]).cpu().numpy()
    sizes = [cost.numel() for cost in costs]
    by_image = [
        part.reshape(cost.shape) for part, cost in zip(np.split(on_host, np.cumsum(sizes)[:-1]), costs, strict=True)
    ]
    return [
        Match.from_images([_assign_groups(image[layer], groups, repeats) for image in by_image], device)
        for layer in range(len(costs[0]))
    ]


def _assign_groups(cost: np.ndarray, groups: int, repeats: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the queries and objects of the pairs for the costs (G * Q, T) of G groups."""
    # Importing SciPy's optimisation takes 0.2 s, which commands that train nothing need not wait for.
    from scipy.optimize import linear_sum_assignment

    size, num_objects = len(cost) // groups, cost.shape[1]
    repeated = np.tile(cost, (1, repeats)) if repeats > 1 else cost
    pairs = [linear_sum_assignment(repeated[start : start + size]) for start in range(0, groups * size, size)]
    queries = [query + group * size for group, (query, _) in enumerate(pairs)]
    return np.concatenate(queries), np.concatenate([target for _, target in pairs]) % max(num_objects, 1)
