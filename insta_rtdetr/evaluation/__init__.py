"""STEP 8  Instances -> AP."""

from .build import build_evaluator

__all__ = ["build_evaluator"]
