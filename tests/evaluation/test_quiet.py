"""What pycocotools cannot score is left out of an evaluation, and counted."""

import contextlib
import io

import pytest
from pycocotools.coco import COCO

from insta_rtdetr.evaluation.quiet import make_scorable

SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def truth(*changes: dict) -> COCO:
    """One image, with a sound object 1 and one for each change, from 2 on."""
    sound = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 16, "bbox": [1, 1, 4, 4], "segmentation": SQUARE}
    coco = COCO()
    annotations = [sound | {"id": number} | change for number, change in enumerate([{}, *changes], start=1)]
    coco.dataset = {"images": [{"id": 1, "height": 9, "width": 9}], "categories": [{"id": 1}]}
    coco.dataset["annotations"] = annotations
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [float("nan"), 1, 4, 4]},
        {"segmentation": []},
        {"segmentation": [[1, 1, 5, 5]]},
        {"segmentation": [[1, 1, 1e9, 1, 5, 5]]},
    ],
)
def test_an_object_that_cannot_be_scored_is_left_out(change, caplog, capsys):
    coco = truth(change)
    make_scorable(coco, with_masks=True)
    assert list(coco.anns) == [1] and len(coco.getAnnIds([1])) == 1
    assert "1 objects with an unusable box or mask do not count" in caplog.text


def test_boxes_alone_need_no_masks(caplog, capsys):
    coco = truth({"segmentation": []})
    make_scorable(coco, with_masks=False)
    assert list(coco.anns) == [1, 2] and not caplog.messages


def test_what_is_missing_is_added_and_ids_begin_with_1(capsys):
    coco = truth({"id": 0}, {"id": "x"})
    for annotation in coco.dataset["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    make_scorable(coco, with_masks=True)
    assert list(coco.anns) == [1, 2, 3]
    assert all(one["area"] == 16 and one["iscrowd"] == 0 for one in coco.anns.values())
