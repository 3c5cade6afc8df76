"""Copy-paste: occlusion is right, vanished objects go, cut ones get tight boxes."""

import numpy as np
import pytest
from pycocotools import mask as mask_util

from insta_rtdetr.data import copy_paste as module
from insta_rtdetr.data.copy_paste import copy_paste, cut, encode, tight_box
from insta_rtdetr.data.sample import Sample
from insta_rtdetr.data.view import View


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


def sample_of(height, width, rectangles, color):
    """Rectangles (left, top, right, bottom), object i of class 10 * color + i, on an image of one colour."""
    masks = []
    for left, top, right, bottom in rectangles:
        mask = np.zeros((height, width), dtype=bool)
        mask[top:bottom, left:right] = True
        masks.append(encode(mask))
    classes = 10 * color + np.arange(len(rectangles))
    boxes = np.array(rectangles, dtype=float).reshape(-1, 4)
    return Sample(np.full((height, width, 3), color, np.uint8), boxes, classes, masks)


def decoded(sample):
    height, width = sample.image.shape[:2]
    return sample.masks(View.identity(height, width))


def test_tight_box_of_an_rle():
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:4, 5] = mask[3, 5:8] = True
    assert tight_box(encode(mask)).tolist() == [5, 2, 8, 4]


def test_cutting_leaves_the_visible_part_with_its_tight_box():
    sample = sample_of(10, 10, [(0, 0, 4, 4), (6, 6, 9, 9), (2, 0, 4, 2)], color=1)
    cover = np.zeros((10, 10), dtype=bool)
    cover[0:4, 2:5] = True
    left = cut(sample, cover, min_size=1.0)
    # the first loses its right half, the second nothing, the third everything
    assert left.classes.tolist() == [10, 11]
    assert left.boxes_xyxy.tolist() == [[0, 0, 2, 4], [6, 6, 9, 9]]
    assert left.segmentations[1] is sample.segmentations[1]
    assert mask_util.area(left.segmentations[0]) == 8
    assert sample.boxes_xyxy[0].tolist() == [0, 0, 4, 4]


def test_what_is_left_must_have_the_smallest_size():
    sample = sample_of(10, 10, [(0, 0, 4, 4)], color=1)
    cover = np.ones((10, 10), dtype=bool)
    cover[0, 0:3] = False
    assert len(cut(sample, cover, min_size=3.0)) == 1 and len(cut(sample, cover, min_size=4.0)) == 0


def test_pasting_at_the_same_place_by_hand(monkeypatch):
    monkeypatch.setattr(module, "_place", lambda donor_hw, receiver_hw: View.identity(10, 10))
    receiver, donor = sample_of(10, 10, [(0, 0, 6, 6)], color=1), sample_of(10, 10, [(3, 0, 8, 8)], color=2)
    pasted = copy_paste(receiver, donor, min_size=1.0)
    assert pasted.classes.tolist() == [10, 20]
    assert pasted.boxes_xyxy.tolist() == [[0, 0, 3, 6], [3, 0, 8, 8]]
    assert (pasted.image[0:8, 3:8] == 2).all() and pasted.image.sum() == 3 * (100 + 40)
    assert (receiver.image == 1).all()


def test_pixels_and_masks_agree_wherever_the_donor_lands():
    receiver = sample_of(40, 60, [(0, 0, 30, 40), (31, 0, 60, 20), (35, 25, 55, 38)], color=1)
    donor = sample_of(80, 50, [(0, 0, 25, 30), (26, 40, 50, 80), (5, 35, 20, 75)], color=2)
    num_pasted = 0
    for _ in range(40):
        sample = copy_paste(receiver, donor, min_size=1.0)
        masks, is_pasted = decoded(sample), sample.classes >= 20
        assert len(sample.boxes_xyxy) == len(sample.classes) == len(sample.segmentations)
        assert (masks.sum(axis=0) <= 1).all()
        # receiver's objects lie where the image is the receiver's; nearest masks reach half a pixel over the edge
        assert (sample.image[masks[~is_pasted].any(axis=0)] == 1).all()
        if is_pasted.any():
            assert (sample.image[masks[is_pasted].any(axis=0)] == 2).mean() > 0.8
        boxes = np.array([tight_box(rle) for rle in sample.segmentations])
        assert (boxes == sample.boxes_xyxy).all()
        num_pasted += is_pasted.sum()
    assert num_pasted >= 30


def test_a_donor_without_objects_and_a_receiver_without_objects():
    empty, full = sample_of(20, 20, [], color=1), sample_of(20, 20, [(0, 0, 20, 20)], color=2)
    assert copy_paste(full, empty, min_size=1.0) is full
    pasted = copy_paste(empty, full, min_size=1.0)
    assert pasted.classes.tolist() == [20] and pasted.boxes_xyxy.shape == (1, 4)


def test_a_small_donor_lies_within_the_receiver_and_a_large_one_covers_it():
    for _ in range(100):
        view = module._place((50, 50), (40, 80))
        assert (view.out_height, view.out_width) == (40, 80)
        for start, length in ((view.top, view.height), (view.left, view.width)):
            low, high = sorted((0, 50 - length))
            assert low <= start <= high
