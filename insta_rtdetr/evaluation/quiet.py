"""Detectron2's COCO evaluator, which keeps its predictions and writes its many lines to the log."""

import logging
from typing import Any

from detectron2.evaluation import COCOEvaluator

from .printed import printed_to_log

logger = logging.getLogger(__name__)


class QuietCOCOEvaluator(COCOEvaluator):
    """Detectron2's COCO evaluator, with what pycocotools prints in the log.

    Attributes:
        truth: the dataset, as pycocotools has read it.
        found: after `evaluate`, in the main process: all predictions in COCO's format of results, with the dataset's
            category ids.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.truth = self._coco_api
        self.found: list[dict] = []

    def evaluate(self, img_ids: list[int] | None = None) -> dict[str, Any]:
        """Score the predictions that were processed, and return the metrics by task."""
        with printed_to_log(logger):
            return super().evaluate(img_ids)

    def _eval_predictions(self, predictions: list[dict], img_ids: list[int] | None = None) -> None:
        keys = [set(found) for prediction in predictions for found in prediction["instances"]]
        super()._eval_predictions(predictions, img_ids)
        # Detectron2 has given them the dataset's category ids in place.  pycocotools has added what they lacked: to
        # boxes alone an outline, which is no mask that was predicted.
        found = [found for prediction in predictions for found in prediction["instances"]]
        self.found = [{key: one[key] for key in had} for one, had in zip(found, keys, strict=True)]
