"""Training: the loop, the optimizer, the moving average, the hooks."""

from .ema import ModelEMA
from .optimizer import build_optimizer
from .setup import check, setup_cfg, start_logging
from .trainer import Trainer

__all__ = ["ModelEMA", "Trainer", "build_optimizer", "check", "setup_cfg", "start_logging"]
