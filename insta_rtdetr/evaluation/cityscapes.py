"""Detectron2's Cityscapes evaluator, adapted to new versions of numpy."""

import logging
from typing import Any

import numpy as np
from detectron2.evaluation import CityscapesInstanceEvaluator

from .printed import printed_to_log
from .replaced import replaced

logger = logging.getLogger(__name__)


class CityscapesEvaluator(CityscapesInstanceEvaluator):
    """Detectron2's evaluator with corrections of cityscapesscripts 2.3, which computes the metrics.

    cityscapesscripts calls numpy.in1d, which numpy 2.4 has removed.  It also writes matches.json, which nothing reads,
    into the working directory, and this raises an error with the integers of numpy 2.4.
    """

    def evaluate(self) -> dict[str, Any] | None:
        """Return AP and AP50 of masks in the main process, and None in others."""
        import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as scoring

        with (
            printed_to_log(logger),
            replaced(np, "in1d", np.isin),
            replaced(scoring, "writeDict2JSON", lambda content, file: None),
        ):
            return super().evaluate()
