"""What SOLOv2 has for itself; its numbers are in test_solov2_parity.py."""

import pytest
import torch

from tests.modeling.meta_arch.checks import check_batch_independence, check_fusing_without_boxes, in_eval_mode
from tests.tiny import random_image, tiny_solov2, training_input


def eval_model(*overrides):
    """A model whose class head is so loud that most cells find something."""
    model = in_eval_mode(tiny_solov2(*overrides))
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in (model.grid_head.class_head, model.grid_head.mask_embedding):
            layer.weight.normal_(std=0.1)
            layer.bias.zero_()
    return model


def test_images_with_and_without_objects_train():
    model = tiny_solov2()
    losses = model([training_input(2, 64, 48), training_input(0, 40, 64, seed=1)])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    losses = model([training_input(0)])
    assert losses["loss_ce"] > 0 and losses["loss_dice"] == 0


def test_an_images_result_does_not_depend_on_its_batch():
    check_batch_independence(eval_model())


def test_fusing_changes_nothing_but_the_time():
    check_fusing_without_boxes(eval_model())


def test_scores_fall_and_boxes_are_those_around_the_masks():
    (result,) = eval_model()([{"image": random_image(64, 96), "height": 100, "width": 150}])
    found = result["instances"]
    assert len(found) >= 5 and (found.scores.diff() <= 0).all() and (found.scores >= 0.05).all()
    for box, mask in zip(found.pred_boxes.tensor.tolist(), found.pred_masks, strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_without_a_threshold_only_what_matrix_nms_has_left_is_returned():
    options = ("MODEL.DECODER.NUM_QUERIES", 500, "TEST.DETECTIONS_PER_IMAGE", 400, "TEST.SCORE_THRESHOLD", 0.0)
    model = eval_model(*options)
    inputs = [{"image": random_image(64, 96)}]
    selected = model.forward_raw(inputs)["class_logits"].sigmoid()
    (result,) = model(inputs)
    assert 0 < len(result["instances"]) == (selected > 0).sum() < 400


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("MODEL.DECODER.GRID_SIDES", (8, 6)), "MODEL.DECODER.GRID_SIDES is"),
        (("MODEL.DECODER.GRID_SIDES", (8, 6, 4, 3, 0)), "MODEL.DECODER.GRID_SIDES is"),
        (("MODEL.MATCHER.SCALE_RANGES", ((1, 12), (6, 24))), "2 ranges"),
        (("MODEL.ENCODER.IN_FEATURES", ("p2", "p3"), "MODEL.DECODER.GRID_SIDES", (8, 6)), "three levels"),
        (("MODEL.ENCODER.IN_FEATURES", ("p3", "p4", "p5"), "MODEL.DECODER.GRID_SIDES", (8, 6, 4)), "of stride 8, want"),
        (("MODEL.DECODER.NUM_QUERIES", 0), "MODEL.DECODER.NUM_QUERIES"),
    ],
)
def test_wrong_keys_are_named(overrides, said):
    with pytest.raises(ValueError, match=said):
        tiny_solov2(*overrides)


def test_objects_without_masks_are_refused():
    inputs = training_input(2)
    inputs["instances"].remove("gt_masks")
    with pytest.raises(ValueError, match="SOLOv2 learns from masks"):
        tiny_solov2()([inputs])
