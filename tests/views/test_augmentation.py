"""What the views of an image show is mirrored back exactly, and merged to one object each."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from insta_rtdetr.errors import UserError
from insta_rtdetr.layers.mask_rle import encode_masks
from insta_rtdetr.layers.rle_masks import RleMasks
from insta_rtdetr.views import Augmentation, augmentation_of_config, find_in_views
from insta_rtdetr.views.augmentation import View
from insta_rtdetr.views.votes import merge_views
from tests.tiny import tiny_config
from tests.views.grey import HEIGHT, WIDTH, disc, draw, find_grey, found_in

FLIPS = [View(0, flip_x, flip_y) for flip_x in (False, True) for flip_y in (False, True)]
# Also of one pixel, within the image and at its border, and cut off by the border.
DISCS = [(20, 30, 8), (75, 150, 20), (140, 5, 9), (40, 190, 4), (100, 60, 0), (0, 90, 0), (149, 60, 3)]


def find(images: list[np.ndarray], short_side: int) -> list[Instances]:
    return find_grey(images)


def by_mask(found: Instances) -> dict[bytes, tuple]:
    """Encoded mask -> box and score."""
    rles = found.pred_masks.rles if isinstance(found.pred_masks, RleMasks) else encode_masks(found.pred_masks)
    boxes, scores = found.pred_boxes.tensor.tolist(), found.scores.tolist()
    return {rle["counts"]: (box, score) for rle, box, score in zip(rles, boxes, scores, strict=True)}


def objects(*corners: tuple[int, int], scores: list[float], classes: list[int] | None = None) -> Instances:
    """Squares of 10 pixels with their upper left corners (y, x)."""
    found = Instances((HEIGHT, WIDTH))
    found.pred_masks = torch.zeros(len(corners), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (y, x) in zip(found.pred_masks, corners):
        mask[y : y + 10, x : x + 10] = True
    boxes = [[x, y, x + 10, y + 10] for y, x in corners]
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.tensor(scores)
    found.pred_classes = torch.tensor(classes or [0] * len(corners), dtype=torch.int64)
    return found


@pytest.mark.parametrize("view", FLIPS)
def test_what_a_view_shows_is_mirrored_back_exactly(view):
    image = draw(*DISCS)
    (expected,), (mirrored,) = find_grey([image]), find_grey([view.apply(image)])
    undone = view.undo(mirrored)
    assert len(by_mask(undone)) == len(DISCS) and by_mask(undone) == by_mask(expected)
    if view.flip_x or view.flip_y:
        assert by_mask(mirrored) != by_mask(expected)


def test_a_model_that_errs_to_one_side_errs_to_the_other_in_a_mirrored_view():
    def moved(images):
        """Every object is found two pixels to the right."""
        found = find_grey(images)
        for one in found:
            one.pred_masks = one.pred_masks.roll(2, dims=2)
        return found

    image = draw((75, 100, 20))
    (undone,) = (View(0, True, False).undo(one) for one in moved([View(0, True, False).apply(image)]))
    assert np.array_equal(undone.pred_masks.numpy()[0], np.roll(disc(75, 100, 20), -2, axis=1))


def test_empty_masks_and_no_objects_stay_so():
    empty = objects((5, 5), scores=[0.5])
    empty.pred_masks[:] = False
    assert not FLIPS[3].undo(empty).pred_masks.numpy().any()
    assert len(merge_views([empty, empty])) == 2
    merged = merge_views([objects(scores=[]), objects(scores=[])])
    assert len(merged) == 0 and merged.pred_masks.numpy().shape == (0, HEIGHT, WIDTH)


def test_views_that_agree_give_what_one_view_gives():
    sizes = []

    def noting(images, short_side):
        sizes.append(short_side)
        return find_grey(images)

    images = [draw(*DISCS), draw((60, 60, 30))]
    views = tuple(View(size, view.flip_x, view.flip_y) for size in (0, 96) for view in FLIPS)
    merged = find_in_views(noting, images, Augmentation(views, max_objects=100))
    assert sizes == [0] * 4 + [96] * 4
    for found, expected in zip(merged, find_grey(images), strict=True):
        assert len(found) == len(expected)
        for counts, (box, score) in by_mask(expected).items():
            assert by_mask(found)[counts] == (pytest.approx(box), pytest.approx(score))


def test_a_view_that_missed_an_object_counts_as_zero():
    views = [objects((20, 20), (60, 60), scores=[0.9, 0.6]), objects((20, 20), scores=[0.3]), objects(scores=[])]
    merged = merge_views(views)
    assert merged.scores.tolist() == pytest.approx([1.2 / 3, 0.6 / 3])


def test_masks_are_voted_on_and_boxes_averaged():
    merged = merge_views([objects((20, 20), scores=[0.6]), objects((22, 20), scores=[0.5]),
                          objects((20, 22), scores=[0.4])])  # fmt: skip
    assert len(merged) == 1 and merged.scores.tolist() == pytest.approx([0.5])
    votes = sum(score * view.pred_masks[0].numpy().astype(float) for score, view in (
        (0.6, objects((20, 20), scores=[0])), (0.5, objects((22, 20), scores=[0])), (0.4, objects((20, 22), scores=[0]))
    ))  # fmt: skip
    assert np.array_equal(merged.pred_masks.numpy()[0], votes > 0.75)
    left, top = 20 + 0.4 * 2 / 1.5, 20 + 0.5 * 2 / 1.5
    assert merged.pred_boxes.tensor[0].tolist() == pytest.approx([left, top, left + 10, top + 10])


def test_other_classes_and_little_overlap_stay_apart():
    other_class = merge_views([objects((20, 20), scores=[0.9]), objects((20, 20), scores=[0.8], classes=[1])])
    assert sorted(other_class.pred_classes.tolist()) == [0, 1]
    # Squares that are 4 pixels apart have an IoU of 0.43.
    assert len(merge_views([objects((20, 20), scores=[0.9]), objects((20, 24), scores=[0.8])])) == 2


def test_two_objects_of_one_view_stay_two():
    twice = objects((20, 20), (20, 21), scores=[0.9, 0.8])
    merged = merge_views([twice, twice])
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8])
    masks = merged.pred_masks.numpy()
    assert masks[0][20, 20] and not masks[0][20, 30] and masks[1][20, 30] and not masks[1][20, 20]


def test_the_object_that_overlaps_most_is_taken():
    views = [objects((20, 20), scores=[0.9]), objects((20, 22), (20, 20), scores=[0.8, 0.1])]
    merged = merge_views(views)
    assert merged.scores.tolist() == pytest.approx([0.5, 0.4])


def test_boxes_without_masks_are_merged_too():
    views = [objects((20, 20), (60, 60), scores=[0.9, 0.6]), objects((20, 21), scores=[0.9])]
    for view in views:
        view.remove("pred_masks")
    merged = merge_views([FLIPS[0].undo(view) for view in views])
    assert not merged.has("pred_masks")
    assert merged.pred_boxes.tensor.flatten().tolist() == pytest.approx([20.5, 20, 30.5, 30, 60, 60, 70, 70])


def test_only_the_best_objects_are_kept():
    def find(images, short_side):
        return [found_in(image[:, :, 0]) for image in images]

    (found,) = find_in_views(find, [draw(*DISCS)], Augmentation(tuple(FLIPS), max_objects=3))
    assert len(found) == 3 and len(found.pred_masks) == 3


def config(*overrides: object):
    return tiny_config("TEST.AUG.ENABLED", True, *overrides)


@pytest.mark.parametrize("flip, overrides, flips", [
    ("both", (), {(False, False), (True, False), (False, True), (True, True)}),
    ("horizontal", (), {(False, False), (True, False)}), ("vertical", (), {(False, False), (False, True)}),
    ("both", ("TEST.AUG.VERTICAL_FLIP", False), {(False, False), (True, False)}),
    ("both", ("TEST.AUG.FLIP", False), {(False, False), (False, True)}),
])  # fmt: skip
def test_flips_are_those_of_the_training(flip, overrides, flips):
    augmentation = augmentation_of_config(config("INPUT.RANDOM_FLIP", flip, "TEST.AUG.MIN_SIZES", (64, 96), *overrides))
    assert {(view.short_side, view.flip_x, view.flip_y) for view in augmentation.views} == {
        (size, *one) for size in (64, 96) for one in flips
    }
    assert len(augmentation.views) == 2 * len(flips) and "short sides of 64, 96 pixels" in str(augmentation)


@pytest.mark.parametrize("overrides, said", [
    (("INPUT.RANDOM_FLIP", "none"), "has one view: INPUT.RANDOM_FLIP is none"),
    (("TEST.AUG.FLIP", False), "has one view"), (("TEST.AUG.MIN_SIZES", (0,)), "TEST.AUG.MIN_SIZES has 0"),
    (("TEST.AUG.MIN_SIZES", (64.5,)), "TEST.AUG.MIN_SIZES has 64.5"),
])  # fmt: skip
def test_wrong_keys_are_named(overrides, said):
    with pytest.raises(UserError, match=said):
        augmentation_of_config(config(*overrides))
