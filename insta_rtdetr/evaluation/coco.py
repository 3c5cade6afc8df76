"""Detectron2's COCO evaluator with faster-coco-eval, in C++, in place of pycocotools, in Python.

Shapes: T IoU thresholds, R recall thresholds, K categories, A area ranges, M limits of detections per image.
"""

import importlib.util
import logging

import numpy as np
from detectron2.evaluation import coco_evaluation
from pycocotools.coco import COCO

from .quiet import QuietCOCOEvaluator
from .replaced import replaced

logger = logging.getLogger(__name__)

# pycocotools adds np.spacing(1) to the number of detections in precision, which changes only the quotient 1 / 1.
ONE_OF_ONE = 1 / (1 + np.spacing(1))


def has_faster_coco_eval() -> bool:
    """Return whether the package faster-coco-eval is installed."""
    return importlib.util.find_spec("faster_coco_eval") is not None


class FasterCOCOEvaluator(QuietCOCOEvaluator):
    """COCO evaluator with the metrics of pycocotools, to the last bit, in a fraction of the time."""

    def _eval_predictions(self, predictions: list[dict], img_ids: list[int] | None = None) -> None:
        if not has_whole_ids(self._coco_api.dataset):
            super()._eval_predictions(predictions, img_ids)
            return
        with replaced(coco_evaluation, "_evaluate_predictions_on_coco", score_results):
            super()._eval_predictions(predictions, img_ids)


def has_whole_ids(dataset: dict) -> bool:
    """Return whether all ids of a COCO file are natural numbers, which faster-coco-eval needs; pycocotools does not."""
    parts = (dataset.get(part, []) for part in ("images", "categories", "annotations"))
    return all(isinstance(item["id"], int) and item["id"] >= 0 for part in parts for item in part)


def score_results(
    ground_truth: COCO, results: list[dict], iou_type: str, *, max_dets_per_image: list[int],
    img_ids: list[int] | None = None, **_: object,
):  # fmt: skip
    """Evaluate boxes or masks, in place of Detectron2's `_evaluate_predictions_on_coco`.

    Args:
        ground_truth: the annotations.
        results: predictions in COCO's format of results.
        iou_type: "bbox" or "segm".
        max_dets_per_image: three limits of the number of detections; the last is used for AP.
        img_ids: ids of the evaluated images; None for all.

    Returns:
        a COCOeval with `stats` and `eval`.
    """
    from faster_coco_eval import COCOeval_faster

    if iou_type == "segm":
        # Without its box, COCO's API uses the area of the mask and not that of the box.
        results = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
    evaluation = COCOeval_faster(ground_truth, ground_truth.loadRes(results), iou_type, print_function=logger.info)
    evaluation.params.maxDets = list(max_dets_per_image)
    if img_ids is not None:
        evaluation.params.imgIds = img_ids
    recalls = evaluation.params.recThrs
    counts, which = np.unique(count_objects(ground_truth, evaluation.params).clip(min=1), return_inverse=True)
    # For each number of objects that occurs, add a threshold between the recalls of one and of two true positives.
    evaluation.params.recThrs = np.concatenate([recalls, 1.5 / counts])
    evaluation.evaluate()
    evaluation.params.recThrs = recalls
    _round_as_pycocotools(evaluation.eval, which, len(recalls))
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def count_objects(ground_truth: COCO, params) -> np.ndarray:
    """Count the objects of each category in each range of areas, without crowds: (K, A)."""
    annotations = ground_truth.loadAnns(ground_truth.getAnnIds(imgIds=params.imgIds, catIds=params.catIds))
    annotations = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
    areas = np.array([annotation["area"] for annotation in annotations])
    category = np.searchsorted(params.catIds, [annotation["category_id"] for annotation in annotations])
    in_ranges = [category[(low <= areas) & (areas <= high)] for low, high in params.areaRng]
    return np.stack([np.bincount(found, minlength=len(params.catIds)) for found in in_ranges], axis=1)


def _round_as_pycocotools(scores: dict, which: np.ndarray, num_recalls: int) -> None:
    """Remove the added recall thresholds, and set precisions of 1 from one detection alone to `ONE_OF_ONE`.

    Args:
        scores: dict of precision and scores (T, R + added, K, A, M), changed in place.
        which: (K, A), index of the added threshold at which precision is 1 if the second detection is correct too.
        num_recalls: `R`.
    """
    precision, added = np.split(scores["precision"], [num_recalls], axis=1)
    of_two = np.take_along_axis(added, which[None, None, :, :, None], axis=1)
    scores["precision"] = np.where((precision == 1) & (of_two != 1), ONE_OF_ONE, precision)
    scores["scores"] = scores["scores"][:, :num_recalls]
