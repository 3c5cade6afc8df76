"""Which query answers for which object by the product of a class's probability and a dice score of whole masks.

Shapes: Q queries, T objects of an image.
"""

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from ...layers.precision import full_precision
from ...structures import Match, Prediction, Target
from .functions import pairwise_dice_scores, shrink_masks
from .matcher import MATCHER_REGISTRY, assign


@MATCHER_REGISTRY.register()
class DiceMatcher(nn.Module):
    """One-to-one assignment of greatest total score: class probability ** beta * dice score ** alpha.

    Source: SparseInst, https://arxiv.org/abs/2203.12827
    """

    @configurable
    def __init__(self, *, class_exponent: float, dice_exponent: float):
        super().__init__()
        self.class_exponent, self.dice_exponent = class_exponent, dice_exponent

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.MATCHER.{CLASS_COST, DICE_COST}."""
        return {"class_exponent": cfg.MODEL.MATCHER.CLASS_COST, "dice_exponent": cfg.MODEL.MATCHER.DICE_COST}

    @torch.no_grad()
    def forward(self, predictions: list[Prediction], targets: list[Target]) -> list[Match]:
        """Match every prediction with the same targets; the targets have masks.

        Returns:
            One match for each prediction; min(Q, T) pairs for each image.
        """
        costs = [
            torch.stack([self._cost(prediction, i, target) for prediction in predictions])
            for i, target in enumerate(targets)
        ]
        return assign(costs, predictions[0].class_logits.device)

    def _cost(self, prediction: Prediction, image: int, target: Target) -> Tensor:
        """(Q, T), the negative scores."""
        one = prediction.select(image, slice(None))
        masks = full_precision(one.mask_logits[0])
        wanted = shrink_masks(target.masks, masks.shape[1:]).to(masks)
        dice = pairwise_dice_scores(masks.flatten(1), wanted.flatten(1))
        probs = full_precision(one.class_logits[0]).sigmoid()[:, target.classes]
        return -(dice**self.dice_exponent) * probs**self.class_exponent
