import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from tests.modeling.meta_arch.test_insta_rtdetr import same
from tests.tiny import random_image, tiny_fastinst, training_input

DEFORMABLE = (
    "MODEL.BACKBONE.NAME", "build_resnet_vd_backbone", "MODEL.RESNETS.DEPTH", 50,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE", (False, False, True, True),
)  # fmt: skip


def eval_model(*overrides, seed=0):
    """Return a model in eval mode whose batch norms have statistics of an image."""
    model = tiny_fastinst(*overrides, seed=seed)
    with torch.no_grad():
        model([training_input(2, seed=i) for i in range(2)])
    return model.double().eval()


def test_an_images_result_does_not_depend_on_its_batch():
    model = eval_model()
    sizes = [(64, 64), (50, 90), (97, 33), (64, 60)]
    inputs = [{"image": random_image(*size, seed=i), "height": 40, "width": 70} for i, size in enumerate(sizes)]
    for one, result in zip(inputs, model(inputs), strict=True):
        assert result["instances"].image_size == (40, 70)
        assert same(model([one])[0]["instances"], result["instances"])


@pytest.mark.parametrize("overrides", [(), DEFORMABLE])
def test_fusing_changes_nothing_but_the_time(overrides):
    model = eval_model(*overrides)
    inputs = [{"image": random_image()}]
    model.fuse_on_eval = False
    expected = model.forward_raw(inputs)
    assert set(expected) == {"class_logits", "mask_logits"}
    model.fuse_on_eval = True
    for name, value in model.forward_raw(inputs).items():
        torch.testing.assert_close(value, expected[name])
    fused = model._inference_network()
    assert not any("norm" in name and "running" in name for name in fused.state_dict())


def test_deformable_backbone_trains():
    model = tiny_fastinst(*DEFORMABLE)
    sum(model([training_input(2)]).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_of_different_sizes_train_together():
    losses = tiny_fastinst()([training_input(2, 64, 48), training_input(1, 40, 64, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())


def test_queries_can_be_more_or_fewer_at_test():
    whole, fewer = eval_model(), eval_model("MODEL.DECODER.NUM_QUERIES", 7)
    fewer.load_state_dict(whole.state_dict())
    assert fewer.forward_raw([{"image": random_image()}])["class_logits"].shape == (1, 7, 6)


def test_another_number_of_classes_leaves_the_class_heads_as_they_are(tmp_path):
    source, model = tiny_fastinst(), tiny_fastinst("MODEL.NUM_CLASSES", 3, seed=1)
    before = model.decoder.prediction_heads[0].class_head.layers[-1].weight.clone()
    torch.save({"model": source.state_dict()}, tmp_path / "five_classes.pth")
    Checkpointer(model).load(str(tmp_path / "five_classes.pth"))
    assert torch.equal(model.decoder.prediction_heads[0].class_head.layers[-1].weight, before)
    assert torch.equal(model.decoder.aux_content.weight, source.decoder.aux_content.weight)


def test_training_after_inference_mode_works():
    model = tiny_fastinst().eval()
    with torch.inference_mode():
        model([{"image": random_image()}])
    sum(model.train()([training_input(2)]).values()).backward()
