"""Detectron2's COCO evaluator, with faster-coco-eval's C++ in place of pycocotools' Python.

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

# pycocotools divides a count of true positives by that of detections plus this, which changes the quotient 1 / 1 alone.
ONE_OF_ONE = 1 / (1 + np.spacing(1))


def has_faster_coco_eval() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("faster_coco_eval") is not None


class FasterCOCOEvaluator(QuietCOCOEvaluator):
    """The same metrics to the last bit, several times as fast; needs faster-coco-eval."""

    def _eval_predictions(self, predictions: list[dict], img_ids: list[int] | None = None) -> None:
        if not has_whole_ids(self._coco_api.dataset):
            super()._eval_predictions(predictions, img_ids)
            return
        with replaced(coco_evaluation, "_evaluate_predictions_on_coco", score_results):
            super()._eval_predictions(predictions, img_ids)


def has_whole_ids(dataset: dict) -> bool:
    """Whether all ids of a COCO file are natural numbers, which faster-coco-eval needs; pycocotools takes names too."""
    parts = (dataset.get(part, []) for part in ("images", "categories", "annotations"))
    return all(isinstance(item["id"], int) and item["id"] >= 0 for part in parts for item in part)


def score_results(
    ground_truth: COCO, results: list[dict], iou_type: str, *, max_dets_per_image: list[int],
    img_ids: list[int] | None = None, **_: object,
):  # fmt: skip
    """What Detectron2's function of the same arguments does, for boxes and masks.

    Args:
        ground_truth: the annotations.
        results: in COCO's format for results.
        iou_type: "bbox" or "segm".
        max_dets_per_image: three limits; the last is that of AP.
        img_ids: the images that count; None: all.

    Returns:
        A COCOeval with `stats` and `eval`.
    """
    from faster_coco_eval import COCOeval_faster

    if iou_type == "segm":
        # Given a box, COCO's API takes its area for the object's.
        results = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
    evaluation = COCOeval_faster(ground_truth, ground_truth.loadRes(results), iou_type, print_function=logger.info)
    evaluation.params.maxDets = list(max_dets_per_image)
    if img_ids is not None:
        evaluation.params.imgIds = img_ids
    recalls = evaluation.params.recThrs
    counts, which = np.unique(count_objects(ground_truth, evaluation.params).clip(min=1), return_inverse=True)
    # Each lies between the recall of one true positive and that of two, for a number of objects that occurs.
    evaluation.params.recThrs = np.concatenate([recalls, 1.5 / counts])
    evaluation.evaluate()
    evaluation.params.recThrs = recalls
    _round_as_pycocotools(evaluation.eval, which, len(recalls))
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def count_objects(ground_truth: COCO, params) -> np.ndarray:
    """(K, A), the objects of each category that count in each range of areas."""
    annotations = ground_truth.loadAnns(ground_truth.getAnnIds(imgIds=params.imgIds, catIds=params.catIds))
    annotations = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
    areas = np.array([annotation["area"] for annotation in annotations])
    category = np.searchsorted(params.catIds, [annotation["category_id"] for annotation in annotations])
    in_ranges = [category[(low <= areas) & (areas <= high)] for low, high in params.areaRng]
    return np.stack([np.bincount(found, minlength=len(params.catIds)) for found in in_ranges], axis=1)


def _round_as_pycocotools(scores: dict, which: np.ndarray, num_recalls: int) -> None:
    """Cut the added recall thresholds off, and make precision 1 that only the first detection reaches `ONE_OF_ONE`.

    Args:
        scores: precision and scores (T, R + added, K, A, M), changed in place.
        which: (K, A), the added threshold that tells whether a second detection reaches it.
        num_recalls: `R`.
    """
    precision, added = np.split(scores["precision"], [num_recalls], axis=1)
    of_two = np.take_along_axis(added, which[None, None, :, :, None], axis=1)
    scores["precision"] = np.where((precision == 1) & (of_two != 1), ONE_OF_ONE, precision)
    scores["scores"] = scores["scores"][:, :num_recalls]
