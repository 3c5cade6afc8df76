"""Tests of Mask DINO alone; test_mask_rtdetr.py has those of what it shares with Mask-RT-DETR."""

import pytest
import torch

from tests.tiny import random_image, tiny_maskdino, training_input

FOUR_LEVELS = ("MODEL.ENCODER.NUM_EXTRA_LEVELS", 1, "MODEL.DECODER.ANCHOR_SIZES", (0.4, 0.2, 0.1, 0.05))


@pytest.mark.parametrize("overrides", [FOUR_LEVELS, ("MODEL.DECODER.MASK_BOX_LAST_CELL", False)])
def test_published_variants_train_and_predict(overrides):
    model = tiny_maskdino(*overrides)
    losses = model([training_input(2, 96, 64), training_input(1, 96, 64, seed=1)])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    (result,) = model.eval()([{"image": random_image(50, 90)}])
    assert result["instances"].pred_masks.shape == (100, 50, 90)


def test_a_score_counts_the_certainty_of_the_mask():
    model = tiny_maskdino().eval()
    inputs = [{"image": random_image(64, 96)}]
    (result,) = model(inputs)
    best = model.forward_raw(inputs)["class_logits"].sigmoid().max()
    assert result["instances"].scores[0] < best


def test_a_decoder_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"MODEL.DECODER.HIDDEN_DIM must be 0 or MODEL.ENCODER.HIDDEN_DIM, 32"):
        tiny_maskdino("MODEL.DECODER.HIDDEN_DIM", 64)


def test_boxes_alone_need_queries_that_start_without_masks():
    with pytest.raises(ValueError, match="MASK_ENHANCED_BOXES False in both stages"):
        tiny_maskdino("MODEL.STAGE", "detector")
    model = tiny_maskdino("MODEL.STAGE", "detector", "MODEL.DECODER.MASK_ENHANCED_BOXES", False).eval()
    with torch.no_grad():
        (result,) = model([{"image": random_image()}])
    assert not result["instances"].has("pred_masks") and len(result["instances"]) == 100
