"""Step 5 (training only): predictions and targets -> {"loss_*": scalar}."""

from .criterion import SetCriterion
from .dice_matcher import DiceMatcher
from .focal_criterion import FocalCriterion
from .grid_criterion import GridCriterion
from .grid_matcher import GridMatcher
from .instance_activation_criterion import InstanceActivationCriterion
from .iou_aware_criterion import IoUAwareCriterion
from .matcher import MATCHER_REGISTRY, HungarianMatcher, LocationMatcher, build_matcher
from .softmax_criterion import SoftmaxCriterion
from .task_aligned_criterion import TaskAlignedCriterion
from .task_aligned_matcher import TaskAlignedMatcher

__all__ = [
    "MATCHER_REGISTRY",
    "DiceMatcher",
    "FocalCriterion",
    "GridCriterion",
    "GridMatcher",
    "HungarianMatcher",
    "InstanceActivationCriterion",
    "IoUAwareCriterion",
    "LocationMatcher",
    "SetCriterion",
    "SoftmaxCriterion",
    "TaskAlignedCriterion",
    "TaskAlignedMatcher",
    "build_matcher",
]
