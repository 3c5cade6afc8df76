"""Detectron2's COCO evaluator, which here keeps its predictions and prints to the log."""

import logging
import math
from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances
from pycocotools.coco import COCO

from insta_rtdetr.data.segmentation import UnusableMask, clean_segmentation
from insta_rtdetr.errors import DatasetError
from insta_rtdetr.layers.rle_masks import RleMasks

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
        try:
            super().__init__(*arguments, **options)
        except KeyError as error:  # of pycocotools, which says nothing more
            raise DatasetError(f"{arguments[0]}: an image, annotation or category has no {error}.  Add it.") from None
        if self._do_evaluation:
            with printed_to_log(logger):
                make_scorable(self._coco_api, with_masks="segm" in (self._tasks or ("segm",)))
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
        """Evaluate the processed predictions, and return task -> metrics."""
        with printed_to_log(logger):
            return super().evaluate(img_ids)

    def _eval_predictions(self, predictions: list[dict], img_ids: list[int] | None = None) -> None:
        keys = [set(found) for prediction in predictions for found in prediction["instances"]]
        super()._eval_predictions(predictions, img_ids)
        # Detectron2 has replaced their category ids, in place, by those of the dataset.  pycocotools has added what
        # they lacked: to boxes alone an outline, which is no mask that was predicted.
        found = [found for prediction in predictions for found in prediction["instances"]]
        self.found = [{key: one[key] for key in had} for one, had in zip(found, keys, strict=True)]


def make_scorable(truth: COCO, with_masks: bool) -> None:
    """Make pycocotools take what training takes: leave out objects that it cannot score, and add what it expects.

    Args:
        truth: the dataset; it is changed.
        with_masks: whether masks are scored.
    """
    annotations = truth.dataset["annotations"]
    kept = [one for one in annotations if _is_scorable(one, truth.imgs.get(one["image_id"]), with_masks)]
    for annotation in kept:
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    if len(kept) < len(annotations):
        num_dropped = len(annotations) - len(kept)
        logger.warning(f"{num_dropped} objects with an unusable box or mask do not count in the evaluation")
    # pycocotools takes an object with the id 0 for a missed one.
    if any(not isinstance(one["id"], int) or one["id"] < 1 for one in kept):
        for number, annotation in enumerate(kept, start=1):
            annotation["id"] = number
    truth.dataset["annotations"] = kept
    truth.createIndex()


def _is_scorable(annotation: dict, image: dict | None, with_masks: bool) -> bool:
    if not all(map(math.isfinite, annotation["bbox"])):
        return False
    if image is None or not with_masks:
        return True
    try:
        clean = clean_segmentation(annotation.get("segmentation"), image["height"], image["width"])
    except UnusableMask:
        return False
    if isinstance(clean, list):
        annotation["segmentation"] = clean
    return True
