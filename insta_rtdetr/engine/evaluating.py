"""Evaluation on DATASETS.TEST with a table of the metrics and drawn images."""

import logging
import os
from collections.abc import Callable, Mapping

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from torch import nn

from insta_rtdetr.evaluation.gallery import write_galleries
from insta_rtdetr.evaluation.quiet import QuietCOCOEvaluator
from insta_rtdetr.evaluation.table import ap_table

logger = logging.getLogger(__name__)


class EvaluationStopped(Exception):
    """Raised to end an evaluation before its last image."""


class EvaluationStopper(DatasetEvaluator):
    """Evaluator without metrics that can end the evaluation after each batch.

    Args:
        should_stop: called after each batch; ends the evaluation if it returns True.
    """

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Check whether to end the evaluation.

        Raises:
            EvaluationStopped: it has to end.
        """
        if self._should_stop():
            raise EvaluationStopped


class Evaluation:
    """Evaluates models on DATASETS.TEST, one after another.

    Args:
        cfg: the config.
        build_evaluator: function of the config and a dataset name that returns an evaluator.
        should_stop: called after each batch; ends the evaluation if it returns True.

    Attributes:
        per_class: whether the table has the AP of each class.
        stopped: whether the last evaluation was ended by `should_stop`.
    """

    def __init__(
        self, cfg: CfgNode, build_evaluator: Callable[[CfgNode, str], DatasetEvaluator],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.per_class = False
        self.stopped = False
        self._cfg = cfg
        self._build_evaluator = build_evaluator
        self._should_stop = should_stop
        self._evaluators: list[DatasetEvaluator] = []

    def run(self, test: Callable[..., dict], model: nn.Module) -> dict:
        """Evaluate a model.

        Args:
            test: Detectron2's `DefaultTrainer.test`.
            model: the model.

        Returns:
            the metrics; empty if the evaluation was stopped.
        """
        self.stopped = False
        self._evaluators = [self._build_evaluator(self._cfg, name) for name in self._cfg.DATASETS.TEST]
        watched = self._evaluators
        # With several processes, none may stop alone, because they wait for one another.
        if comm.get_world_size() == 1:
            watched = [DatasetEvaluators([evaluator, EvaluationStopper(self._should_stop)]) for evaluator in watched]
        mode = model.training
        try:
            return test(self._cfg, model, watched)
        except EvaluationStopped:
            logger.info("The evaluation was stopped")
            model.train(mode)  # Detectron2 does this only at the end of a complete evaluation
            self.stopped, self._evaluators = True, []
            return {}

    def table(self, results: Mapping, title: str = "") -> str:
        """Return a table of the metrics for each dataset.

        Args:
            results: the metrics that `run` returned.
            title: text before the dataset's name.
        """
        names = self._cfg.DATASETS.TEST
        by_dataset = {names[0]: results} if len(names) == 1 else results
        prefix = f"{title}, " if title else ""
        return "\n".join(ap_table(found, f"{prefix}{name}", self.per_class) for name, found in by_dataset.items())

    def draw(self, folder: str | os.PathLike) -> None:
        """Write predictions.png and worst.png of the last evaluation, for the first dataset if there are several.

        Raises:
            OSError: a file cannot be written.
        """
        evaluators, self._evaluators = self._evaluators, []
        if evaluators and isinstance(evaluators[0], QuietCOCOEvaluator) and comm.is_main_process():
            root = MetadataCatalog.get(self._cfg.DATASETS.TEST[0]).get("image_root", "")
            write_galleries(evaluators[0].truth, evaluators[0].found, root, folder)
