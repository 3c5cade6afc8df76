"""Training: the trainer, the optimizer, the moving average of the weights and the hooks."""

from .checks import RunOptions, check
from .ema import ModelEMA
from .optimizer import build_optimizer
from .plan import TrainingPlan, make_plan
from .run import TrainingResult, fine_tune, train
from .setup import setup_cfg
from .trainer import Trainer

__all__ = [
    "ModelEMA",
    "RunOptions",
    "Trainer",
    "TrainingPlan",
    "TrainingResult",
    "build_optimizer",
    "check",
    "fine_tune",
    "make_plan",
    "setup_cfg",
    "train",
]
