import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from tests.modeling.meta_arch.checks import check_batch_independence, check_fusing_without_boxes, in_eval_mode
from tests.tiny import random_image, tiny_fastinst, training_input

DEFORMABLE = (
    "MODEL.BACKBONE.NAME", "build_resnet_vd_backbone", "MODEL.RESNETS.DEPTH", 50,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE", (False, False, True, True),
)  # fmt: skip


def eval_model(*overrides, seed=0):
    return in_eval_mode(tiny_fastinst(*overrides, seed=seed))


def test_an_images_result_does_not_depend_on_its_batch():
    check_batch_independence(eval_model())


@pytest.mark.parametrize("overrides", [(), DEFORMABLE])
def test_fusing_changes_nothing_but_the_time(overrides):
    check_fusing_without_boxes(eval_model(*overrides))


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
