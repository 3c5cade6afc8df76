"""Detectron2's COCO evaluator, which keeps its predictions and writes its many lines to the log."""

import logging
from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances

from insta_rtdetr.layers.rle_masks import RleMasks

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

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take the predictions of a batch; masks may be `RleMasks`."""
        for one, output in zip(inputs, outputs):
            masks = output["instances"].get_fields().get("pred_masks") if "instances" in output else None
            if not isinstance(masks, RleMasks):
                super().process([one], [output])
                continue
            boxes_only = Instances(output["instances"].image_size, **output["instances"].get_fields())
            boxes_only.remove("pred_masks")
            super().process([one], [{"instances": boxes_only}])
            for found, rle in zip(self._predictions[-1]["instances"], masks.rles):
                found["segmentation"] = {**rle, "counts": rle["counts"].decode("ascii")}

    def evaluate(self, img_ids: list[int] | None = None) -> dict[str, Any]:
        """Score the predictions that were processed, and return the metrics by task."""
        with printed_to_log(logger):
            return super().evaluate(img_ids)

    def _eval_predictions(self, predictions: list[dict], img_ids: list[int] | None = None) -> None:
        super()._eval_predictions(predictions, img_ids)
        # Detectron2 has given them the dataset's category ids in place.
        self.found = [found for prediction in predictions for found in prediction["instances"]]
