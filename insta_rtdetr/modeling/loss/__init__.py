"""Step 5 (training only): predictions and targets -> {"loss_*": scalar}."""

from .criterion import SetCriterion
from .matcher import MATCHER_REGISTRY, HungarianMatcher, build_matcher

__all__ = ["MATCHER_REGISTRY", "HungarianMatcher", "SetCriterion", "build_matcher"]
