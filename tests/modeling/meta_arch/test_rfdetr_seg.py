import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from tests.modeling.meta_arch.test_insta_rtdetr import same
from tests.tiny import random_image, tiny_rfdetr_seg, training_input


def eval_model(*overrides, seed=0):
    """Return a model in eval mode with changed heads, because many predictions are equal with the initial ones."""
    model = tiny_rfdetr_seg(*overrides, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.double().eval()


@pytest.mark.parametrize("fixed_size", [(48, 48), (48, 72), ()])
def test_an_images_result_does_not_depend_on_its_batch(fixed_size):
    model = eval_model("INPUT.FIXED_SIZE", fixed_size)
    sizes = [(48, 48), (50, 90), (97, 33), (48, 50)]
    inputs = [{"image": random_image(*size, seed=i), "height": 40, "width": 70} for i, size in enumerate(sizes)]
    for one, result in zip(inputs, model(inputs), strict=True):
        assert result["instances"].image_size == (40, 70)
        assert same(model([one])[0]["instances"], result["instances"])


def test_boxes_stay_within_the_image():
    model = eval_model()
    with torch.no_grad():
        model.decoder.box_head.layers[-1].bias.copy_(torch.tensor([-9.0, 9.0, 0.0, 0.0]))
    inputs = [{"image": random_image(), "height": 40, "width": 70}]
    raw, result = model.forward_raw(inputs), model(inputs)[0]["instances"]
    boxes = result.pred_boxes.tensor
    assert raw["boxes_cxcywh"].min() < 0 and raw["boxes_cxcywh"].max() > 1
    assert boxes.min() == 0 and boxes[:, 0::2].max() <= 70 and boxes[:, 1::2].max() == 40


def test_fusing_changes_nothing():
    model = eval_model()
    inputs = [{"image": random_image()}]
    model.fuse_on_eval = False
    expected = model.forward_raw(inputs)
    assert set(expected) == {"class_logits", "boxes_cxcywh", "mask_logits"}
    for fused in (eval_model().forward_raw(inputs), model.fuse().forward_raw(inputs)):
        for name, value in fused.items():
            torch.testing.assert_close(value, expected[name])


def test_raw_answer_has_the_documented_shapes_at_any_size():
    model = eval_model("INPUT.FIXED_SIZE", (72, 120))
    raw = model.forward_raw([{"image": random_image(seed=i)} for i in range(2)])
    assert raw["class_logits"].shape == (2, 10, 5)
    assert raw["boxes_cxcywh"].shape == (2, 10, 4)
    assert raw["mask_logits"].shape == (2, 10, 18, 30)


def test_a_map_smaller_than_the_queries_gives_fewer_queries():
    model = tiny_rfdetr_seg("INPUT.FIXED_SIZE", (24, 48))
    assert all(loss.isfinite() for loss in model([training_input(2)]).values())
    assert model.eval().forward_raw([{"image": random_image()}])["class_logits"].shape == (1, 8, 5)


@pytest.mark.parametrize("counts", [(2, 1), (3, 0), (0, 0), (25, 2)])
def test_every_parameter_learns(counts):
    """The batches include an empty image, and one with more objects than a group has queries."""
    model = tiny_rfdetr_seg()
    inputs = [training_input(count, height, 60, seed=i) for i, (count, height) in enumerate(zip(counts, (48, 64)))]
    losses = model(inputs)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_losses_have_a_name_for_every_layer():
    kinds = ("loss_ce", "loss_bbox", "loss_giou", "loss_mask_ce", "loss_mask_dice")
    losses = tiny_rfdetr_seg()([training_input(2)])
    assert set(losses) == {kind + suffix for kind in kinds for suffix in ("", "_aux_0", "_enc")}


def test_a_few_steps_make_the_loss_smaller():
    model = tiny_rfdetr_seg("MODEL.DECODER.NUM_GROUPS", 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(30):
        loss = sum(model([training_input(2), training_input(3, seed=1)]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-3:]) < 0.8 * sum(history[:3])


def test_groups_do_not_see_each_other_and_only_the_first_answers():
    """The first group's queries give the same in training and in eval mode."""
    model = tiny_rfdetr_seg().double()
    images = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    trained = model.run_network(images).layers[-1]
    answer = model.eval().run_network(images).layers[-1]
    torch.testing.assert_close(trained.class_logits[:, :10, :5], answer.class_logits)
    torch.testing.assert_close(trained.boxes_cxcywh[:, :10], answer.boxes_cxcywh)
    torch.testing.assert_close(trained.mask_logits[:, :10], answer.mask_logits)
    assert trained.class_logits.shape == (2, 30, 7)


def test_half_precision_training_keeps_losses_in_float32():
    model = tiny_rfdetr_seg()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model([training_input(2)])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.eval()([{"image": random_image()}])


def test_images_of_different_sizes_train_together_when_no_size_is_fixed():
    model = tiny_rfdetr_seg("INPUT.FIXED_SIZE", ())
    losses = model([training_input(2, 64, 48), training_input(1, 40, 64, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())


def test_fewer_layers_at_test_are_the_first_layers():
    whole, short = eval_model(), eval_model("MODEL.DECODER.EVAL_LAYERS", 1)
    short.load_state_dict(whole.state_dict())
    inputs = [{"image": random_image()}]
    whole.decoder.eval_layers = 1
    torch.testing.assert_close(short.forward_raw(inputs), whole.forward_raw(inputs))


def test_own_checkpoint_comes_back(tmp_path):
    first, second = tiny_rfdetr_seg(seed=0), tiny_rfdetr_seg(seed=1)
    Checkpointer(first, str(tmp_path)).save("model_final", iteration=7)
    assert Checkpointer(second).load(str(tmp_path / "model_final.pth"))["iteration"] == 7
    torch.testing.assert_close(dict(second.state_dict()), dict(first.state_dict()), rtol=0, atol=0)


def test_another_number_of_classes_leaves_the_class_heads_as_they_are(tmp_path):
    source, model = tiny_rfdetr_seg(), tiny_rfdetr_seg("MODEL.NUM_CLASSES", 3, seed=1)
    before = model.decoder.class_head.weight.clone()
    torch.save({"model": source.state_dict()}, tmp_path / "five_classes.pth")
    Checkpointer(model).load(str(tmp_path / "five_classes.pth"))
    assert torch.equal(model.decoder.class_head.weight, before)
    assert torch.equal(model.decoder.box_head.layers[0].weight, source.decoder.box_head.layers[0].weight)


def test_training_after_inference_mode_works():
    model = tiny_rfdetr_seg().eval()
    with torch.inference_mode():
        model([{"image": random_image()}])
    sum(model.train()([training_input(2)]).values()).backward()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.DECODER.NUM_GROUPS", 0), ("MODEL.DECODER.NUM_QUERIES", 0), ("MODEL.DECODER.NUM_CROSS_HEADS", 5),
        ("MODEL.DINOV2.OUT_BLOCKS", (2, 4, 7)), ("MODEL.DINOV2.NUM_WINDOWS", 0), ("MODEL.TIMM.NAME", "resnet18"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_key(key, value):
    with pytest.raises(ValueError, match=key.rsplit(".", 1)[-1]):
        tiny_rfdetr_seg(key, value)
