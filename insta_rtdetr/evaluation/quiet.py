"""Detectron2's COCO evaluator, which here keeps its predictions and prints to the log."""

import logging
from typing import Any

from detectron2.evaluation import COCOEvaluator

from .printed import printed_to_log

logger = logging.getLogger(__name__)


class QuietCOCOEvaluator(COCOEvaluator):
    """Detectron2's COCO evaluator, changed so that the output of pycocotools goes to the log.

    Attributes:
        truth: the dataset as pycocotools has read it.
        found: all predictions in COCO's format of results, with the dataset's category ids; set by `evaluate` in the
            main process.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.truth = self._coco_api
        self.found: list[dict] = []

    def evaluate(self, img_ids: list[int] | None = None) -> dict[str, Any]:
        """Evaluate the processed predictions, and return task -> metrics."""
        with printed_to_log(logger):
            return super().evaluate(img_ids)

    def _eval_predictions(self, predictions: list[dict], img_ids: list[int] | None = None) -> None:
        super()._eval_predictions(predictions, img_ids)
        # Detectron2 has replaced their category ids, in place, by those of the dataset.
        self.found = [found for prediction in predictions for found in prediction["instances"]]
