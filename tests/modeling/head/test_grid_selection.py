import math

import pytest
import torch

from insta_rtdetr.modeling.head import GridSelection
from insta_rtdetr.modeling.head.grid_selection import keep_peaks, matrix_nms_decay
from insta_rtdetr.structures import Prediction


def test_a_cell_with_a_better_one_above_or_left_of_it_is_no_peak():
    grid = torch.tensor([[0.5, 0.6, 0.1], [0.4, 0.2, 0.7], [0.9, 0.3, 0.3]])
    kept = keep_peaks(grid.reshape(1, 9, 1), 3).reshape(3, 3)
    expected = [[0.5, 0.6, 0.0], [0.0, 0.0, 0.7], [0.9, 0.0, 0.0]]
    torch.testing.assert_close(kept, torch.tensor(expected))


def test_overlaps_lower_scores_within_a_class_by_the_gaussian_of_the_paper():
    masks = torch.zeros(1, 4, 8, dtype=torch.bool)
    masks[0, 0, :4] = masks[0, 1, 2:6] = masks[0, 2, 4:6] = masks[0, 3, :4] = True
    classes, scores = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    decay = matrix_nms_decay(masks, classes, scores)[0]
    # The first overlaps the second by 1/3, which therefore counts less where it overlaps the third by 1/2.
    expected = [1.0, math.exp(-2 / 9), math.exp(-2 * (1 / 4 - 1 / 9)), 1.0]
    torch.testing.assert_close(decay, torch.tensor(expected))
    reordered = matrix_nms_decay(masks.flip(1), classes.flip(1), scores.flip(1))[0]
    torch.testing.assert_close(reordered, decay.flip(0))


def test_of_two_equal_objects_the_first_stays():
    masks = torch.ones(1, 2, 6, dtype=torch.bool)
    decay = matrix_nms_decay(masks, torch.zeros(1, 2), torch.full((1, 2), 0.5))
    torch.testing.assert_close(decay, torch.tensor([[1.0, math.exp(-2)]]))


def selection(**options):
    given = {"num_queries": 6, "class_threshold": 0.1, "mask_threshold": 0.5, "min_areas": [3, 5]}
    return GridSelection(grid_sides=(2, 1), **(given | options))


def prediction():
    """Two classes; the mask of every cell is the left half of a map of 2 x 4, with a probability of 0.75."""
    logits = torch.full((1, 5, 2), -6.0)
    logits[0, 0, 1], logits[0, 4, 0] = 2.0, 1.0
    features = torch.full((1, 1, 2, 4), -math.log(3))
    features[..., :2] = math.log(3)
    return Prediction(logits, mask_embeddings=torch.ones(1, 5, 1), mask_features=features)


def test_scores_count_class_and_mask_and_small_masks_are_left_out():
    probs = selection()(prediction()).class_logits.sigmoid()
    expected = 0.75 * torch.sigmoid(torch.tensor(2.0))
    # The mask has 4 cells: more than the 3 of the first grid, not more than the 5 of the second.
    torch.testing.assert_close(probs[0, 0], torch.stack([torch.tensor(0.0), expected]), rtol=1e-5, atol=1e-8)
    assert probs[0, 1:].sum() == 0 and probs.shape == (1, 6, 2)
    both = selection(min_areas=[3, 3])(prediction()).class_logits.sigmoid()
    assert (both > 0).sum() == 2
    assert (selection(class_threshold=0.8)(prediction()).class_logits.sigmoid() > 0).sum() == 1


def test_as_many_queries_as_asked_for():
    with pytest.raises(ValueError, match="NUM_QUERIES"):
        selection(num_queries=0)
    assert selection(num_queries=100)(prediction()).class_logits.shape == (1, 10, 2)
