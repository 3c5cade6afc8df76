"""What SparseInst has for itself; its numbers are in test_sparseinst_parity.py."""

import pytest
import torch

from tests.modeling.meta_arch.checks import check_batch_independence, check_fusing_without_boxes, in_eval_mode
from tests.tiny import random_image, tiny_sparseinst, training_input

DEFORMABLE = (
    "MODEL.BACKBONE.NAME", "build_deformable_resnet_backbone", "MODEL.RESNETS.DEPTH", 50,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 256, "MODEL.RESNETS.DEFORM_ON_PER_STAGE", (False, False, True, True),
)  # fmt: skip


def eval_model(*overrides):
    return in_eval_mode(tiny_sparseinst(*overrides))


@pytest.mark.parametrize("overrides", [(), ("MODEL.DECODER.NUM_GROUPS", 1), DEFORMABLE])
def test_variants_train_on_images_with_and_without_objects(overrides):
    model = tiny_sparseinst(*overrides)
    losses = model([training_input(2, 64, 48), training_input(0, 40, 64, seed=1)])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    losses = model([training_input(0)])
    assert losses["loss_ce"] > 0 and losses["loss_mask"] == losses["loss_dice"] == losses["loss_objectness"] == 0


def test_more_objects_than_queries_train():
    losses = tiny_sparseinst("MODEL.DECODER.NUM_QUERIES", 4)([training_input(7), training_input(3, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())


def test_an_images_result_does_not_depend_on_its_batch():
    check_batch_independence(eval_model())


@pytest.mark.parametrize("overrides", [(), DEFORMABLE])
def test_fusing_changes_nothing_but_the_time(overrides):
    check_fusing_without_boxes(eval_model(*overrides))


def test_a_query_has_one_class_and_a_score_that_counts_objectness_and_mask():
    model = eval_model("TEST.SCORE_THRESHOLD", 0.0)
    inputs = [{"image": random_image(64, 96)}]
    found = []
    model.fuse_on_eval = False
    model.decoder.register_forward_hook(lambda decoder, inputs, prediction: found.append(prediction))
    (result,) = model(inputs)
    prediction = found[0]
    probs, classes = prediction.class_logits[0].sigmoid().max(1)
    masks = prediction.mask_logits[0].sigmoid()
    certainties = torch.stack([mask[mask > 0.45].sum() / max((mask > 0.45).sum(), 1) for mask in masks])
    expected, order = ((probs * prediction.objectness_logits[0].sigmoid()).sqrt() * certainties).sort(descending=True)
    torch.testing.assert_close(result["instances"].scores, expected, rtol=1e-5, atol=1e-8)
    assert result["instances"].pred_classes.tolist() == classes[order].tolist()


def test_objects_without_masks_are_refused():
    inputs = training_input(2)
    inputs["instances"].remove("gt_masks")
    with pytest.raises(ValueError, match="SparseInst learns from masks"):
        tiny_sparseinst()([inputs])
