"""Base class of the criteria of models without decoder layers, whose losses compare whole masks."""

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from .matcher import build_matcher


class WholeMaskCriterion(nn.Module):
    """Matcher, weights of the losses and parameters of the class loss; a subclass reads its weights."""

    @configurable
    def __init__(self, *, matcher: nn.Module, weights: dict[str, float], alpha: float, gamma: float):
        """Set up the criterion.

        Args:
            matcher: called with (predictions, targets), gives one `Match` for each prediction.
            weights: factor of each loss by its name.
            alpha: weight in the class loss: of positives in the focal, of negatives in the varifocal loss.
            gamma: its exponent.
        """
        super().__init__()
        self.matcher, self.weights, self.alpha, self.gamma = matcher, weights, alpha, gamma

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.LOSS.* and MODEL.MATCHER.*."""
        loss = cfg.MODEL.LOSS
        return {
            "matcher": build_matcher(cfg),
            "weights": cls.read_weights(loss),
            "alpha": loss.VARIFOCAL_ALPHA,
            "gamma": loss.VARIFOCAL_GAMMA,
        }

    @classmethod
    def read_weights(cls, loss: CfgNode) -> dict[str, float]:
        """Read the weight of each loss, by its name, from MODEL.LOSS.*."""
        raise NotImplementedError

    def focal_loss(self, logits: Tensor, is_positive: Tensor) -> Tensor:
        """Return the sum of the focal loss of class logits, with targets of 0 and 1 of the same shape."""
        return sigmoid_focal_loss(logits, is_positive, self.alpha, self.gamma, reduction="sum")
