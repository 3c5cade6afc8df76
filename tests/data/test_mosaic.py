"""Mosaic and large-scale jitter by hand; that everything stays in step is in test_augmentation_in_step.py."""

import numpy as np
import pytest
import torch

from insta_rtdetr.data import mosaic as module
from insta_rtdetr.data.augmentation import RandomView, scale_jitter
from insta_rtdetr.data.mosaic import mosaic
from insta_rtdetr.data.view import View

from .test_copy_paste import decoded, sample_of


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    np.random.seed(0)


def test_four_parts_by_hand(monkeypatch):
    monkeypatch.setattr(module, "MIDDLE_RANGE", (0.5, 0.5))
    monkeypatch.setattr(module, "SCALE_RANGE", (1.0, 1.0))
    samples = [sample_of(40, 60, [(10, 20, 30, 40)], color=1), sample_of(20, 30, [(0, 0, 30, 10)], color=2)]
    samples += [sample_of(40, 60, [], color=3), sample_of(80, 60, [(0, 0, 60, 80)], color=4)]
    found = mosaic(samples, min_size=1.0)
    assert found.image.shape == (40, 60, 3)
    # the first is halved, the second stays, the fourth is a quarter: 15 x 20 pixels, and black beside it
    assert found.boxes_xyxy.tolist() == [[5, 10, 15, 20], [30, 0, 60, 10], [30, 20, 45, 40]]
    assert found.classes.tolist() == [10, 20, 40]
    for y, x, color in ((5, 5, 1), (15, 55, 2), (30, 10, 3), (30, 35, 4), (30, 55, 0)):
        assert (found.image[y, x] == color).all()
    masks = decoded(found)
    assert masks.sum(axis=(1, 2)).tolist() == [100, 300, 300]
    assert masks[2][20:40, 30:45].all()


def test_what_a_part_cuts_off_is_dropped_and_tiny_images_stay(monkeypatch):
    monkeypatch.setattr(module, "SCALE_RANGE", (50.0, 50.0))
    samples = [sample_of(40, 60, [(0, 0, 1, 1)], color=color) for color in (1, 2, 3, 4)]
    counts = {len(mosaic(samples, min_size=1.0)) for _ in range(10)}
    assert counts == {0}
    tiny = sample_of(4, 60, [(0, 0, 1, 1)], color=1)
    assert mosaic([tiny, *samples[1:]], min_size=1.0) is tiny


def test_jitter_larger_than_the_output_is_a_crop_and_smaller_is_padded_below_and_right():
    large = [scale_jitter(View.identity(100, 200), (2.0, 2.0), (100, 200)) for _ in range(20)]
    assert {(view.height, view.width) for view in large} == {(50, 100)}
    assert all(0 <= view.left <= 100 and 0 <= view.top <= 50 for view in large) and len({v.left for v in large}) > 5
    small = scale_jitter(View.identity(100, 200), (0.5, 0.5), (80, 80))
    # 200 pixels become 40 of 80
    assert (small.left, small.top, small.width, small.height) == (0, 0, 400, 400)


@pytest.mark.parametrize("scales", [(2.0, 1.0), (0.0, 1.0), (1.0,)])
def test_factors_that_are_no_range_name_the_key(scales):
    with pytest.raises(ValueError, match=r"INPUT.SCALE_JITTER must be \(smallest, largest\)"):
        RandomView(jitter_scales=scales)
