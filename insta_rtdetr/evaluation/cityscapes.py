"""Detectron2's Cityscapes evaluator, which cityscapesscripts does the scoring for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.evaluation import CityscapesInstanceEvaluator


class CityscapesEvaluator(CityscapesInstanceEvaluator):
    """The same with every numpy: cityscapesscripts 2.3 calls a function that numpy 2.4 has no more."""

    def evaluate(self) -> dict[str, Any] | None:
        """AP and AP50 of masks; on the main process alone."""
        with _in1d():
            return super().evaluate()


@contextmanager
def _in1d() -> Iterator[None]:
    if hasattr(np, "in1d"):
        yield
        return
    np.in1d = np.isin
    try:
        yield
    finally:
        del np.in1d
