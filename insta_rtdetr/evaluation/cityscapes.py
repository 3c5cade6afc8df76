"""Detectron2's Cityscapes evaluator, which cityscapesscripts does the scoring for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.evaluation import CityscapesInstanceEvaluator


class CityscapesEvaluator(CityscapesInstanceEvaluator):
    """The same with every numpy, and without the files that nobody reads.

    cityscapesscripts 2.3 calls numpy.in1d, which numpy 2.4 has no more, and writes matches.json into the working
    directory, where numpy 2.4's integers stop it.
    """

    def evaluate(self) -> dict[str, Any] | None:
        """AP and AP50 of masks; on the main process alone."""
        import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as scoring

        with _replaced(np, "in1d", np.isin), _replaced(scoring, "writeDict2JSON", lambda content, file: None):
            return super().evaluate()


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Within the context the module's name means the value."""
    before = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name) if before is None else setattr(module, name, before)
