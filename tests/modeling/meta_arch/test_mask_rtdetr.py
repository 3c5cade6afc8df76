"""Tests of what Mask-RT-DETR and Mask DINO, its subclass, have in common."""

import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from tests.modeling.meta_arch.checks import check_batch_independence, in_eval_mode
from tests.tiny import random_image, tiny_mask_rtdetr, tiny_maskdino, training_input

# If there are fewer prototypes than channels of the features, folding leaves the projection on the pixels.
FEW_PROTOTYPES = ("MODEL.MASK_HEAD.DIM", 4)
MODELS = {"MaskRTDETR": tiny_mask_rtdetr, "MaskDINO": tiny_maskdino}
MASK_LOSSES = {"MaskRTDETR": {"loss_mask_bce", "loss_mask_dice"}, "MaskDINO": {"loss_mask", "loss_dice"}}
CLASS_LOSS = {"MaskRTDETR": "loss_vfl", "MaskDINO": "loss_ce"}


@pytest.fixture(params=MODELS)
def build(request):
    return MODELS[request.param]


def eval_model(build, *overrides, seed=0):
    return in_eval_mode(build(*overrides, seed=seed))


@pytest.mark.parametrize("fixed_size", [(64, 96), ()])
def test_an_images_result_does_not_depend_on_its_batch(build, fixed_size):
    check_batch_independence(eval_model(build, "INPUT.FIXED_SIZE", fixed_size))


@pytest.mark.parametrize("overrides", [(), FEW_PROTOTYPES])
def test_fusing_changes_nothing_but_the_time(build, overrides):
    model = eval_model(build, *overrides)
    inputs = [{"image": random_image(64, 96)}]
    model.fuse_on_eval = False
    expected = model.forward_raw(inputs)
    model.fuse_on_eval = True
    for name, value in model.forward_raw(inputs).items():
        torch.testing.assert_close(value, expected[name])
    fused = model._inference_network()
    assert not any("running" in name for name in fused.state_dict())


def test_every_parameter_learns_from_crowded_and_from_empty_images(build):
    for objects in ((110, 0), (0, 0)):
        model = build()
        losses = model([training_input(count, seed=i) for i, count in enumerate(objects)])
        assert all(loss.isfinite() for loss in losses.values())
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_losses_are_those_of_positions_first_queries_and_every_layer(name):
    losses = MODELS[name]()([training_input(2), training_input(1, seed=1)])
    suffixes = {"", "_enc", "_aux_0", "_aux_1", "_dn", "_dn_0", "_dn_1"}
    kinds = {CLASS_LOSS[name], "loss_bbox", "loss_giou", *MASK_LOSSES[name]}
    assert set(losses) == {kind + suffix for kind in kinds for suffix in suffixes}


def test_images_of_different_sizes_train_together_when_no_size_is_fixed(build):
    losses = build("INPUT.FIXED_SIZE", ())([training_input(2, 64, 48), training_input(1, 40, 64, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("overrides", [("MODEL.DENOISING.NUM_QUERIES", 0), ("MODEL.MASK_HEAD.STRIDE", 8)])
def test_variants_train(build, overrides):
    losses = build(*overrides)([training_input(2), training_input(1, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())


def test_half_precision_keeps_losses_in_float32_and_answers(build):
    model = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model([training_input(2)])
        (result,) = model.eval()([{"image": random_image()}])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())
    assert result["instances"].pred_masks.shape == (100, 64, 64)


def test_fewer_queries_at_test_need_no_other_weights(build):
    whole, fewer = eval_model(build), eval_model(build, "MODEL.DECODER.NUM_QUERIES", 7)
    fewer.load_state_dict(whole.state_dict())
    assert fewer.forward_raw([{"image": random_image()}])["boxes_cxcywh"].shape == (1, 7, 4)


def test_a_checkpoint_brings_the_model_back(build, tmp_path):
    source, model = eval_model(build), eval_model(build, seed=1)
    Checkpointer(source, str(tmp_path)).save("model")
    Checkpointer(model).load(str(tmp_path / "model.pth"))
    inputs = [{"image": random_image()}]
    torch.testing.assert_close(model.forward_raw(inputs), source.forward_raw(inputs))


def test_another_number_of_classes_leaves_the_class_head_as_it_is(build, tmp_path):
    source, model = build(), build("MODEL.NUM_CLASSES", 3, seed=1)
    before = model.decoder.class_head.weight.clone()
    torch.save({"model": source.state_dict()}, tmp_path / "five_classes.pth")
    Checkpointer(model).load(str(tmp_path / "five_classes.pth"))
    assert torch.equal(model.decoder.class_head.weight, before)
    assert torch.equal(model.decoder.box_head.layers[0].weight, source.decoder.box_head.layers[0].weight)


def test_training_after_inference_mode_works(build):
    model = build().eval()
    with torch.inference_mode():
        model([{"image": random_image()}])
    sum(model.train()([training_input(2)]).values()).backward()
