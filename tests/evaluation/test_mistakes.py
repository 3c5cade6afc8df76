"""Mistakes counted by hand, on squares in images of 20 x 20."""

import numpy as np
import pytest
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from insta_rtdetr.evaluation.mistakes import (
    DUPLICATE,
    INEXACT,
    MISSED,
    NOTHING_THERE,
    RIGHT,
    WRONG_CLASS,
    best_threshold,
    compare,
)

SIDE = 20


def square(left: int, top: int, width: int, height: int, **more: object) -> dict:
    """An object with a box and a mask, of image 1 and category 1."""
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    box = {"bbox": [left, top, width, height], "segmentation": mask_util.encode(mask), "area": width * height}
    return {"image_id": 1, "category_id": 1, **box, **more}


def judge(truths: list[dict], found: list[dict], with_masks: bool = True):
    """The comparison of image 1 of two, with all scores 0.9 unless they are given."""
    found = [{"score": 0.9} | one for one in found]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": id_, "file_name": f"{id_}.png", "height": SIDE, "width": SIDE} for id_ in (1, 2)],
        "annotations": [{"id": number, "iscrowd": 0} | one for number, one in enumerate(truths, start=1)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    truth.createIndex()
    if not with_masks:
        found = [{key: value for key, value in one.items() if key != "segmentation"} for one in found]
    (first, second), _ = compare(truth, found)
    assert second.image["id"] == 2
    return first


TRUTH = square(0, 0, 10, 10)
HIT = square(0, 0, 10, 9)


@pytest.mark.parametrize(
    "found, truth_verdict, found_verdicts",
    [
        ([HIT], RIGHT, [RIGHT]),
        ([HIT, square(1, 0, 10, 10)], RIGHT, [RIGHT, DUPLICATE]),
        ([HIT, square(0, 0, 10, 4)], RIGHT, [RIGHT, DUPLICATE]),
        ([HIT, square(0, 0, 10, 10) | {"category_id": 2}], RIGHT, [RIGHT, WRONG_CLASS]),
        ([HIT, square(12, 12, 5, 5)], RIGHT, [RIGHT, NOTHING_THERE]),
        ([HIT, square(9, 9, 10, 10)], RIGHT, [RIGHT, NOTHING_THERE]),
    ],
)
@pytest.mark.parametrize("with_masks", [True, False])
def test_predictions_beside_a_right_one(found, truth_verdict, found_verdicts, with_masks):
    compared = judge([TRUTH], found, with_masks)
    assert compared.truth_verdicts == [truth_verdict] and compared.found_verdicts == found_verdicts


@pytest.mark.parametrize(
    "one, truth_verdict, found_verdict",
    [
        (square(0, 0, 10, 4), INEXACT, INEXACT),
        (square(0, 0, 10, 9) | {"category_id": 2}, WRONG_CLASS, WRONG_CLASS),
        (square(12, 12, 5, 5), MISSED, NOTHING_THERE),
    ],
)
def test_an_object_without_a_right_prediction(one, truth_verdict, found_verdict):
    # Another image's hit sets the threshold.
    compared = judge([TRUTH, TRUTH | {"image_id": 2}], [one, HIT | {"image_id": 2, "score": 0.8}])
    assert compared.truth_verdicts == [truth_verdict] and compared.found_verdicts == [found_verdict]
    assert compared.mistakes.total() == (2 if truth_verdict == MISSED else 1)


def test_what_nobody_found_is_missed_and_crowds_are_no_objects():
    compared = judge([TRUTH, square(10, 10, 10, 10) | {"iscrowd": 1}], [square(11, 11, 4, 4)])
    assert compared.truth_verdicts == [MISSED] and compared.found == []


def test_the_better_prediction_is_the_right_one_and_low_scores_are_left_out():
    found = [HIT | {"score": 0.4}, square(0, 0, 10, 10) | {"score": 0.6}, square(12, 12, 5, 5) | {"score": 0.1}]
    compared = judge([TRUTH], found)
    assert [one["score"] for one in compared.found] == [0.6]
    assert compared.mistakes.total() == 0


def test_the_threshold_has_the_best_f1():
    # Of four objects: 1 of 1 found (F1 0.4), 2 of 2 (0.67), 2 of 3 (0.57), 3 of 4 (0.75), 3 of 5 (0.67).
    scores, hits = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, True, False, True, False])
    assert best_threshold(scores, hits, 4) == 0.6
    assert best_threshold(scores[::-1], hits[::-1], 4) == 0.6


def test_without_hits_the_threshold_is_a_half():
    assert best_threshold(np.array([0.9]), np.array([False]), 3) == 0.5
    assert best_threshold(np.array([]), np.array([], dtype=bool), 0) == 0.5
    assert judge([TRUTH], []).truth_verdicts == [MISSED]
