"""STEP 8  Instances -> AP."""

from .build import EvaluationError, build_evaluator

__all__ = ["EvaluationError", "build_evaluator"]
