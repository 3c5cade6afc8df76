import pytest
import torch
from detectron2.structures import Instances

from tests.tiny import random_image, tiny_model, training_input


def eval_model(*overrides, seed=0):
    """Return a model in eval mode whose batch norms have statistics of an image."""
    model = tiny_model(*overrides, seed=seed)
    with torch.no_grad():
        model([training_input(2, seed=i) for i in range(2)])
    return model.double().eval()


def same(a: Instances, b: Instances) -> bool:
    return (
        torch.allclose(a.scores, b.scores)
        and torch.equal(a.pred_classes, b.pred_classes)
        and torch.allclose(a.pred_boxes.tensor, b.pred_boxes.tensor)
        and (a.pred_masks != b.pred_masks).float().mean() < 1e-3
    )


@pytest.mark.parametrize("fixed_size", [(64, 64), (64, 96), ()])
def test_an_images_result_does_not_depend_on_its_batch(fixed_size):
    model = eval_model("INPUT.FIXED_SIZE", fixed_size)
    sizes = [(64, 64), (50, 90), (97, 33), (64, 60)]
    inputs = [{"image": random_image(*size, seed=i), "height": 40, "width": 70} for i, size in enumerate(sizes)]
    together = model(inputs)
    for one, result in zip(inputs, together, strict=True):
        assert result["instances"].image_size == (40, 70)
        assert result["instances"].pred_masks.shape == (100, 40, 70)
        assert same(model([one])[0]["instances"], result["instances"])


def test_fusing_changes_nothing_but_the_time():
    model = eval_model()
    inputs = [{"image": random_image()}]
    model.fuse_on_eval = False
    expected = model.forward_raw(inputs)
    model.fuse_on_eval = True
    names = set(model.state_dict())
    for fused in (model.forward_raw(inputs), model.fuse().forward_raw(inputs)):
        for name, value in expected.items():
            torch.testing.assert_close(fused[name], value)
    assert len(model.state_dict()) < len(names)


def test_the_fused_copy_is_no_part_of_the_checkpoint_and_follows_the_weights():
    model = eval_model()
    inputs, names = [{"image": random_image()}], set(model.state_dict())
    before = model.forward_raw(inputs)["class_logits"]
    assert set(model.state_dict()) == names
    with torch.no_grad():
        model.decoder.class_heads[-1].bias.add_(1.0)
    torch.testing.assert_close(model.forward_raw(inputs)["class_logits"], before + 1)
    model.load_state_dict(eval_model(seed=1).state_dict())
    assert not torch.allclose(model.forward_raw(inputs)["class_logits"], before)


def test_a_copy_fused_under_autocast_keeps_full_precision_weights():
    model = eval_model().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model([{"image": random_image()}])
    assert {p.dtype for p in model._inference_network().parameters()} == {torch.float32}
    model([{"image": random_image()}])


def test_a_fused_model_refuses_to_train():
    model = eval_model().fuse()
    with pytest.raises(RuntimeError, match="fused model cannot be trained"):
        model.train()([training_input(1)])
    with pytest.raises(RuntimeError, match=r"Call model.eval"):
        tiny_model().fuse()
    with pytest.raises(RuntimeError, match=r"Call model.eval"):
        tiny_model().forward_raw([{"image": random_image()}])


def test_fewer_layers_at_test_are_the_first_layers():
    whole = eval_model()
    short = eval_model("MODEL.DECODER.EVAL_LAYERS", 2)
    short.load_state_dict(whole.state_dict())
    inputs = [{"image": random_image()}]
    whole.decoder.eval_layers = 2
    torch.testing.assert_close(short.forward_raw(inputs), whole.forward_raw(inputs))
    with pytest.raises(ValueError, match=r"MODEL.DECODER.EVAL_LAYERS"):
        tiny_model("MODEL.DECODER.EVAL_LAYERS", 4)


def test_fewer_queries_at_test_need_no_other_weights():
    whole, fewer = eval_model(), eval_model("MODEL.DECODER.NUM_QUERIES", 7)
    fewer.load_state_dict(whole.state_dict())
    assert fewer.forward_raw([{"image": random_image()}])["boxes_cxcywh"].shape == (1, 7, 4)


def test_raw_answer_has_the_documented_shapes():
    raw = eval_model().forward_raw([{"image": random_image(seed=i)} for i in range(2)])
    assert raw["class_logits"].shape == (2, 20, 5)
    assert raw["boxes_cxcywh"].shape == (2, 20, 4)
    assert raw["mask_logits"].shape == (2, 20, 16, 16)
    assert raw["boxes_cxcywh"].min() >= 0 and raw["boxes_cxcywh"].max() <= 1


def test_training_after_inference_mode_works():
    model = tiny_model().eval()
    with torch.inference_mode():
        model([{"image": random_image()}])
    sum(model.train()([training_input(2)]).values()).backward()


def test_images_of_different_sizes_train_together_when_no_size_is_fixed():
    losses = tiny_model("INPUT.FIXED_SIZE", ())([training_input(2, 64, 48), training_input(1, 40, 64, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize(
    "overrides", [("MODEL.DENOISING.NUM_QUERIES", 0), ("MODEL.MASK_HEAD.STRIDE", 8), ("MODEL.MASK_HEAD.DIM", 32)]
)
def test_variants_train(overrides):
    losses = tiny_model(*overrides)([training_input(2, 64, 64), training_input(1, 64, 64, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("box_prior", [False, True])
def test_positions_learn_masks_where_asked(box_prior):
    overrides = ("MODEL.MASK_HEAD.BOX_PRIOR", box_prior)
    inputs = [training_input(2)]
    without = tiny_model(*overrides)(inputs)
    model = tiny_model("MODEL.LOSS.ENCODER_MASKS", True, *overrides)
    losses = model(inputs)
    assert losses.keys() - without.keys() == {"loss_mask_bce_enc", "loss_mask_dice_enc"}
    losses["loss_mask_dice_enc"].backward()
    assert model.query_selection.token_projection.weight.grad.abs().sum() > 0
    # In eval mode there are none.
    assert not model.eval().run_network(torch.zeros(1, 3, 64, 64)).encoder.has_masks


def test_masks_of_stride_2_need_a_backbone_with_that_level():
    timm = (
        "MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "mobilenetv2_050", "MODEL.MASK_HEAD.STRIDE", 2,
    )  # fmt: skip
    model = tiny_model(*timm, "MODEL.TIMM.OUT_FEATURES", ("res1", "res3", "res4", "res5"))
    assert all(loss.isfinite() for loss in model([training_input(2)]).values())
    assert model.eval().forward_raw([{"image": random_image()}])["mask_logits"].shape == (1, 20, 32, 32)
    with pytest.raises(ValueError, match="res1"):
        tiny_model(*timm)


def test_half_precision_training_keeps_losses_in_float32():
    model = tiny_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model([training_input(2)])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())


def test_multi_scale_can_be_turned_off():
    model = tiny_model("INPUT.MULTI_SCALE", (96,))
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    model([training_input(1)])
    model.multi_scale_enabled = False
    model([training_input(1)])
    assert seen == [96, 64]
