"""What PP-YOLOE_seg has for itself; its numbers are in test_ppyoloe_seg_parity.py."""

import pytest
import torch
from torchvision.ops import box_iou

from insta_rtdetr.layers.boxes import cxcywh_to_xyxy
from insta_rtdetr.modeling.loss.functions import first_pixels, shrink_masks
from tests.modeling.meta_arch.checks import check_batch_independence, in_eval_mode
from tests.tiny import random_image, tiny_ppyoloe_seg, training_input


def eval_model(*overrides):
    """A model whose classes and boxes differ from position to position, as they do not at the start of a training."""
    model = tiny_ppyoloe_seg(*overrides)
    generator = torch.Generator().manual_seed(1)
    for head in (*model.head.class_heads, *model.head.side_heads):
        head.weight.data = 0.3 * torch.randn(head.weight.shape, generator=generator)
    return in_eval_mode(model)


def test_images_with_and_without_objects_train():
    model = tiny_ppyoloe_seg()
    losses = model([training_input(2, 64, 48), training_input(0, 40, 64, seed=1)])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    losses = model([training_input(0)])
    assert losses["loss_vfl"] > 0 and losses["loss_giou"] == losses["loss_dfl"] == losses["loss_mask"] == 0
    sum(losses.values()).backward()


def test_an_images_result_does_not_depend_on_its_batch():
    check_batch_independence(eval_model())


def test_fusing_changes_nothing_but_the_time():
    model, inputs = eval_model(), [{"image": random_image()}]
    with torch.no_grad():
        for block in model.modules():
            if getattr(block, "scale", None) is not None:
                block.scale.fill_(0.3)
    model.fuse_on_eval = False
    expected = model.forward_raw(inputs)
    model.fuse_on_eval = True
    for name, value in model.forward_raw(inputs).items():
        torch.testing.assert_close(value, expected[name])
    assert not any("norm" in name and "running" in name for name in model._inference_network().state_dict())


def test_no_two_objects_of_a_class_overlap_more_than_the_threshold():
    found = eval_model("TEST.NMS_THRESHOLD", 0.5)([{"image": random_image()}])[0]["instances"]
    overlaps = box_iou(found.pred_boxes.tensor, found.pred_boxes.tensor).fill_diagonal_(0)
    overlaps[found.pred_classes[:, None] != found.pred_classes] = 0
    assert len(found) > 10 and 0.3 < overlaps.max() <= 0.5


def test_suppression_precedes_the_choice_of_the_best():
    few, many = (
        eval_model("TEST.DETECTIONS_PER_IMAGE", count)([{"image": random_image()}])[0]["instances"]
        for count in (10, 300)
    )
    assert len(few) == 10 and len(many) > 10
    assert torch.equal(few.scores, many.scores[:10])


def test_masks_end_at_their_boxes():
    found = eval_model("TEST.MASK_THRESHOLD", 0.01)([{"image": random_image()}])[0]["instances"]
    rows, columns = torch.arange(64)[:, None], torch.arange(64)
    for mask, (x0, y0, x1, y1) in zip(found.pred_masks, found.pred_boxes.tensor, strict=True):
        assert torch.equal(mask, (rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1))


def test_positions_predict_boxes_around_themselves():
    model = eval_model()
    prediction = model.run_network(model.preprocessor([{"image": random_image(64, 96)}]).images).layers[-1]
    boxes, points = cxcywh_to_xyxy(prediction.boxes_cxcywh), prediction.query_points
    assert ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all()


def test_masks_are_resized_in_one_way_only():
    with pytest.raises(ValueError, match="MASK_RESIZE must be probability_twice"):
        tiny_ppyoloe_seg("TEST.MASK_RESIZE", "logit")


def test_targets_of_masks_are_read_in_one_of_two_ways():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 1:8, 1:8] = True
    assert first_pixels(mask, (2, 2)).tolist() == [[[0, 0], [0, 1]]]
    assert shrink_masks(mask, (2, 2)).tolist() == [[[1, 1], [1, 1]]]
    of_first, between = (
        tiny_ppyoloe_seg("MODEL.LOSS.MASK_SHRINK", shrink)([training_input(3)])["loss_mask"]
        for shrink in ("first_pixel", "bilinear")
    )
    assert between > 0 and between != of_first
    with pytest.raises(ValueError, match="MASK_SHRINK must be one of first_pixel, bilinear, got 'mean'"):
        tiny_ppyoloe_seg("MODEL.LOSS.MASK_SHRINK", "mean")


def test_objects_without_masks_are_refused():
    inputs = training_input(2)
    inputs["instances"].remove("gt_masks")
    with pytest.raises(ValueError, match="PPYOLOESeg learns from masks"):
        tiny_ppyoloe_seg()([inputs])
