import math

import pytest
import torch

from insta_rtdetr.modeling.loss.functions import iou_aware_bce_loss
from insta_rtdetr.modeling.loss.matcher import assign, num_points_of


def test_iou_aware_loss_by_hand():
    """There is a match of probability 0.8 and overlap 0.5, and another output of probability 0.4."""
    logits = torch.tensor([[[math.log(4), math.log(2 / 3)]]], requires_grad=True)
    iou = torch.tensor([[[0.5, 0.0]]])
    loss = iou_aware_bce_loss(logits, iou, iou > 0, alpha=0.25, gamma=2.0)
    target = 0.8**0.25 * 0.5**0.75
    match = -target * math.log(0.8) - (1 - target) * math.log(0.2)
    other = -(0.4**2) * math.log(0.6)
    assert loss.item() == pytest.approx(match + other, rel=1e-5)
    loss.backward()
    # The weight of the other output, p^2, has a gradient too: d/dx p^2 = 2 p^2 (1 - p).
    expected = [0.8 - target, 0.4**3 - 2 * 0.4**2 * 0.6 * math.log(0.6)]
    assert logits.grad[0, 0].tolist() == pytest.approx(expected, rel=1e-4)


def test_every_group_is_matched_with_all_objects():
    """There are two groups of two queries; the second object has a lower cost for the later query of each."""
    cost = torch.tensor([[[1.0, 5.0], [2.0, 0.0], [9.0, 1.0], [3.0, 2.0]]])
    (match,) = assign([cost], torch.device("cpu"), groups=2)
    assert match.query.tolist() == [0, 1, 2, 3]
    assert match.object.tolist() == [0, 1, 1, 0]


def test_number_of_points_follows_the_map():
    assert num_points_of((78, 78), 0) == 380
    assert num_points_of((8, 8), 0) == 8
    assert num_points_of((78, 78), 64) == 64
