import math

import pytest
import torch
from detectron2.structures import BitMasks

from insta_rtdetr.layers.boxes import (
    boxes_of_occupied,
    cxcywh_to_xyxy,
    inverse_sigmoid,
    iou_and_giou,
    shift_and_scale,
    xyxy_to_cxcywh,
)


def test_formats_are_inverse():
    boxes = torch.tensor([[2.0, 3.0, 4.0, 2.0]])
    assert cxcywh_to_xyxy(boxes).tolist() == [[0.0, 2.0, 4.0, 4.0]]
    assert xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)).tolist() == boxes.tolist()


@pytest.mark.parametrize(
    ("other", "iou", "giou"),
    [
        ((0, 0, 2, 2), 1.0, 1.0),
        ((1, 0, 3, 2), 2 / 6, 2 / 6),
        ((4, 0, 6, 2), 0.0, -4 / 12),  # a gap of 2 x 2 in a hull of 6 x 2
        ((0, 0, 0, 0), 0.0, 0.0),
    ],
)
def test_overlap_by_hand(other, iou, giou):
    found_iou, found_giou = iou_and_giou(torch.tensor([0.0, 0, 2, 2]), torch.tensor(other).float())
    assert found_iou.item() == pytest.approx(iou)
    assert found_giou.item() == pytest.approx(giou)


def test_two_empty_boxes_have_finite_overlap():
    iou, giou = iou_and_giou(torch.zeros(4), torch.zeros(4))
    assert iou.item() == 0
    assert giou.isfinite()


def test_all_pairs_by_broadcasting():
    a, b = torch.rand(3, 4).cumsum(-1), torch.rand(5, 4).cumsum(-1)
    iou, _ = iou_and_giou(a[:, None], b[None])
    assert iou[1, 4] == iou_and_giou(a[1], b[4])[0]


def test_boxes_around_masks_equal_detectron2s():
    masks = torch.zeros(4, 9, 7, dtype=torch.bool)
    masks[1, 2, 3] = True
    masks[2, 0, 6] = masks[2, 8, 1] = True
    masks[3] = True
    assert torch.equal(boxes_of_occupied(masks.any(1), masks.any(2)), BitMasks(masks).get_bounding_boxes().tensor)


def test_inverse_sigmoid_stays_finite():
    assert inverse_sigmoid(torch.tensor([0.0, 1.0])).isfinite().all()
    assert inverse_sigmoid(torch.tensor([0.25])).sigmoid().item() == pytest.approx(0.25)


def test_shift_is_in_sides_and_scale_is_exponential():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    moved = shift_and_scale(boxes, torch.tensor([[1.0, -0.5, 0.0, math.log(2)]]))
    assert moved.tolist() == [pytest.approx([0.7, 0.3, 0.2, 0.8])]
