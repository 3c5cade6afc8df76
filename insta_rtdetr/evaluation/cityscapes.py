"""Detectron2's Cityscapes evaluator, which cityscapesscripts does the scoring for."""

import logging
from typing import Any

import numpy as np
from detectron2.evaluation import CityscapesInstanceEvaluator

from .printed import printed_to_log
from .replaced import replaced

logger = logging.getLogger(__name__)


class CityscapesEvaluator(CityscapesInstanceEvaluator):
    """The same with every numpy, and without the files that nobody reads.

    cityscapesscripts 2.3 calls numpy.in1d, which numpy 2.4 has no more, and writes matches.json into the working
    directory, where numpy 2.4's integers stop it.
    """

    def evaluate(self) -> dict[str, Any] | None:
        """AP and AP50 of masks; on the main process alone."""
        import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as scoring

        with (
            printed_to_log(logger),
            replaced(np, "in1d", np.isin),
            replaced(scoring, "writeDict2JSON", lambda content, file: None),
        ):
            return super().evaluate()
