"""Tiles cover an image, and what they show of one object is found once."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from insta_rtdetr.errors import UserError
from insta_rtdetr.views.tiling import Tiling, find_in_tiles
from tests.views.grey import HEIGHT, WIDTH, disc, draw, find_grey, found_in


def found_masks(image: np.ndarray, tiling: Tiling, find=find_grey, **options) -> list[np.ndarray]:
    return list(find_in_tiles(find, image, tiling, **options).pred_masks.numpy())


def assert_discs(found: list[np.ndarray], *discs: tuple[float, float, float]) -> None:
    """Each disc is found once, pixel by pixel, and nothing else."""
    assert len(found) == len(discs)
    for one in discs:
        assert sum(np.array_equal(mask, disc(*one)) for mask in found) == 1


@pytest.mark.parametrize("size_hw", [(1, 1), (63, 64), (64, 65), (100, 300), (641, 640)])
@pytest.mark.parametrize("overlap", [0, 0.2, 0.5])
def test_tiles_have_one_size_and_cover_the_image(size_hw, overlap):
    covered = np.zeros(size_hw, dtype=int)
    tiles = Tiling(64, overlap).tiles(size_hw)
    for tile in tiles:
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
        assert (tile.bottom - tile.top, tile.right - tile.left) == tuple(min(64, side) for side in size_hw)
    assert covered.min() == 1
    lefts = sorted({tile.left for tile in tiles})
    assert all(left + 64 - after >= math.floor(64 * overlap) for left, after in zip(lefts, lefts[1:]))


@pytest.mark.parametrize("options", [{"size": 0}, {"size": -3}, {"size": 2.5}, {"size": 64, "overlap": 1.0},
                                     {"size": 64, "overlap": float("nan")}])  # fmt: skip
def test_wrong_tilings_are_refused(options):
    with pytest.raises(UserError, match="wanted"):
        Tiling(**options)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_objects_anywhere_are_found_once(batch_size):
    discs = [(y, x, 5) for y in range(8, HEIGHT - 6, 13) for x in range(7, WIDTH - 6, 13)]
    found = found_masks(draw(*discs), Tiling(64, 0.2), batch_size=batch_size)
    assert_discs(found, *discs)


def test_an_object_larger_than_the_overlap_is_put_together():
    assert_discs(found_masks(draw((75, 100, 60)), Tiling(64, 0.2)), (75, 100, 60))


def test_an_image_smaller_than_a_tile_is_found_as_it_is():
    image = draw((20, 30, 8), (60, 90, 12))
    found, expected = find_in_tiles(find_grey, image, Tiling(500)), find_grey([image])[0]
    assert np.array_equal(found.pred_masks.numpy(), expected.pred_masks.numpy())
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)


def test_a_cut_object_gives_way_although_its_score_is_higher():
    def find(images):
        # What touches the border of its tile gets a better score than what is whole.
        found = [found_in(image[:, :, 0]) for image in images]
        for one in found:
            masks = one.pred_masks
            edge = masks[:, 0].any(1) | masks[:, -1].any(1) | masks[:, :, 0].any(1) | masks[:, :, -1].any(1)
            one.scores = torch.where(edge, 0.99, 0.6)
        return found

    instances = find_in_tiles(find, draw((75, 58, 6)), Tiling(64, 0.3))
    assert_discs(list(instances.pred_masks.numpy()), (75, 58, 6))
    assert instances.scores.tolist() == pytest.approx([0.6])


def test_neighbours_that_touch_stay_apart_although_their_boxes_overlap():
    # Two diagonal bars: their boxes are nearly the same, their masks have nothing in common.
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for i in range(30):
        image[50 + i, 40 + i : 44 + i] = 1
        image[50 + i, 46 + i : 50 + i] = 2
    found = found_masks(image, Tiling(64, 0.5))
    assert sorted(mask.sum() for mask in found) == [120, 120]


def test_classes_are_not_mixed():
    classes = iter(range(100))

    def find(images):
        found = find_grey(images)
        for one in found:
            one.pred_classes[:] = next(classes)  # each tile has a class of its own
        return found

    # The disc lies in two tiles of the upper row.
    instances = find_in_tiles(find, draw((20, 58, 6)), Tiling(64, 0.4))
    assert sorted(instances.pred_classes.tolist()) == [0, 1]


def test_neighbours_that_overlap_a_little_stay_apart():
    def find(images):
        found = find_grey(images)
        for one in found:
            grown = [ndimage.binary_dilation(mask, iterations=2) for mask in one.pred_masks.numpy()]
            one.pred_masks = torch.from_numpy(np.array(grown, dtype=bool).reshape(one.pred_masks.shape))
        return found

    # No tile shows both whole: those of the first two columns have the pixels 0 to 63 and 36 to 99.
    image = draw((75, 38, 8), (75, 56, 8))
    found, (expected,) = found_masks(image, Tiling(64, 0.3), find), find([image])
    assert sorted(mask.sum() for mask in found) == sorted(mask.sum() for mask in expected.pred_masks.numpy())


def test_boxes_without_masks_are_merged_too():
    def find(images):
        found = find_grey(images)
        for one in found:
            one.remove("pred_masks")
        return found

    instances = find_in_tiles(find, draw((75, 58, 6), (20, 120, 9)), Tiling(64, 0.3))
    assert not instances.has("pred_masks")
    assert sorted(instances.pred_boxes.tensor.tolist()) == [[52, 69, 65, 82], [111, 11, 130, 30]]


def test_nothing_is_found_in_nothing():
    instances = find_in_tiles(find_grey, draw(), Tiling(64))
    assert len(instances) == 0 and instances.image_size == (HEIGHT, WIDTH)
    assert instances.pred_masks.numpy().shape == (0, HEIGHT, WIDTH)
