"""Comparison of predictions with the ground truth of each image, with a verdict on each object.

Shapes: T true objects and P predictions of an image.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

# A prediction with a lower IoU is not regarded as one of the true object.
TOUCHING_IOU = 0.1
MATCHED_IOU = 0.5

RIGHT, MISSED, DUPLICATE, WRONG_CLASS, INEXACT, NOTHING_THERE = (
    "right", "missed", "duplicated", "wrong class", "IoU below 0.5", "nothing there",
)  # fmt: skip
MISTAKES = (MISSED, DUPLICATE, WRONG_CLASS, INEXACT, NOTHING_THERE)


@dataclass
class ComparedImage:
    """The ground truth and the predictions of one image.

    Attributes:
        image: record of the image in the COCO file.
        truths: annotations without crowds.
        found: predictions in COCO's format of results, best first.
        truth_verdicts: for each true object, RIGHT, MISSED, or the mistake of a prediction that is nearest to it.
        found_verdicts: for each prediction, RIGHT or one of MISTAKES except MISSED.
    """

    image: dict[str, Any]
    truths: list[dict]
    found: list[dict]
    truth_verdicts: list[str] = field(default_factory=list)
    found_verdicts: list[str] = field(default_factory=list)

    @property
    def mistakes(self) -> Counter:
        """Count the mistakes of each kind."""
        missed = [verdict for verdict in self.truth_verdicts if verdict == MISSED]
        return Counter(missed + [verdict for verdict in self.found_verdicts if verdict != RIGHT])


def compare(truth: COCO, found: Iterable[dict]) -> tuple[list[ComparedImage], float]:
    """Compare predictions with the ground truth at the score threshold that gives the best F1 on these images.

    Args:
        truth: the dataset.
        found: all predictions, in COCO's format of results, with masks or with boxes alone.

    Returns:
        the compared images of the dataset, in the order of their ids, and the threshold.
    """
    by_image = defaultdict(list)
    for one in sorted(found, key=lambda one: -one["score"]):
        by_image[one["image_id"]].append(one)
    pairs, scores, hits, num_truths = [], [], [], 0
    for image_id in sorted(truth.imgs):
        crowds, truths = _split_crowds(truth.imgToAnns[image_id])
        predictions = _outside_crowds(by_image[image_id], crowds, truth)
        ious = _ious(predictions, truths, truth)
        pairs.append((ComparedImage(truth.imgs[image_id], truths, predictions), ious))
        matched = _match(predictions, truths, ious)
        scores += [one["score"] for one in predictions]
        hits += [match is not None for match in matched]
        num_truths += len(truths)
    threshold = best_threshold(np.array(scores), np.array(hits, dtype=bool), num_truths)
    return [_judged(image, ious, threshold) for image, ious in pairs], threshold


def best_threshold(scores: np.ndarray, hits: np.ndarray, num_truths: int) -> float:
    """Return the score threshold that gives predictions the best F1, or 0.5 if none is a hit.

    Args:
        scores: (P,), scores of the predictions of all images.
        hits: (P,), bool, whether a prediction is matched with a true object.
        num_truths: number of true objects of all images.
    """
    if not hits.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    num_hits = np.cumsum(hits[order])
    f1 = 2 * num_hits / (np.arange(1, len(order) + 1) + num_truths)
    return float(scores[order][f1.argmax()])


def _split_crowds(annotations: list[dict]) -> tuple[list[dict], list[dict]]:
    crowds = [one for one in annotations if one.get("iscrowd")]
    return crowds, [one for one in annotations if not one.get("iscrowd")]


def _outside_crowds(found: list[dict], crowds: list[dict], truth: COCO) -> list[dict]:
    """Return the predictions outside of crowds, because COCO does not score those inside."""
    if not crowds or not found:
        return found
    within = _ious(found, crowds, truth).max(axis=1) > MATCHED_IOU
    return [one for one, is_within in zip(found, within) if not is_within]


def _ious(found: list[dict], truths: list[dict], truth: COCO) -> np.ndarray:
    """Return the IoUs (P, T) of masks, or of boxes without masks; for a crowd, the fraction of the prediction in it."""
    if not found or not truths:
        return np.zeros((len(found), len(truths)))
    is_crowd = [int(one.get("iscrowd", 0)) for one in truths]
    if "segmentation" in found[0]:
        left, right = [one["segmentation"] for one in found], [truth.annToRLE(one) for one in truths]
    else:
        left, right = (np.array([one["bbox"] for one in side], dtype=float) for side in (found, truths))
    return np.asarray(mask_util.iou(left, right, is_crowd))


def _match(found: list[dict], truths: list[dict], ious: np.ndarray) -> list[int | None]:
    """Match each prediction, best first, with the unmatched true object of its class that it overlaps most.

    Returns:
        for each prediction the index of its true object, or None if the IoU is below `MATCHED_IOU`.
    """
    is_free = np.ones(len(truths), dtype=bool)
    categories = np.array([one["category_id"] for one in truths])
    matched: list[int | None] = []
    for one, row in zip(found, ious):
        candidates = np.where(is_free & (categories == one["category_id"]), row, 0) if len(truths) else np.zeros(1)
        best = int(candidates.argmax())
        matched.append(best if candidates[best] >= MATCHED_IOU else None)
        if matched[-1] is not None:
            is_free[best] = False
    return matched


def _judged(compared: ComparedImage, ious: np.ndarray, threshold: float) -> ComparedImage:
    """Return the image with the predictions whose score reaches the threshold, and with all verdicts."""
    num_kept = sum(one["score"] >= threshold for one in compared.found)
    found, ious = compared.found[:num_kept], ious[:num_kept]
    truth_verdicts = [MISSED] * len(compared.truths)
    matched = _match(found, compared.truths, ious)
    for index in matched:
        if index is not None:
            truth_verdicts[index] = RIGHT
    found_verdicts = []
    for one, index, row in zip(found, matched, ious):
        verdict = RIGHT
        if index is None:
            nearest = int(row.argmax()) if len(row) else 0
            verdict = _verdict(one, compared.truths, row, nearest, truth_verdicts)
            if verdict in (WRONG_CLASS, INEXACT) and truth_verdicts[nearest] == MISSED:
                truth_verdicts[nearest] = verdict
        found_verdicts.append(verdict)
    return ComparedImage(compared.image, compared.truths, found, truth_verdicts, found_verdicts)


def _verdict(one: dict, truths: list[dict], row: np.ndarray, nearest: int, truth_verdicts: list[str]) -> str:
    """Return what is wrong with a prediction that matches no true object."""
    if not len(row) or row[nearest] < TOUCHING_IOU:
        return NOTHING_THERE
    if row[nearest] < MATCHED_IOU:
        return DUPLICATE if truth_verdicts[nearest] == RIGHT else INEXACT
    return DUPLICATE if truths[nearest]["category_id"] == one["category_id"] else WRONG_CLASS
