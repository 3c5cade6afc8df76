"""Step 8: predicted `Instances` -> AP."""

from .build import build_evaluator

__all__ = ["build_evaluator"]
