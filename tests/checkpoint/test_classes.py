"""Weights meet other classes: rows go by name, and one line says which."""

import logging

import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.classes import ClassMatch, count_classes, num_extra_rows
from insta_rtdetr.engine.ema import ModelEMA
from insta_rtdetr.errors import CheckpointError
from tests.tiny import (
    tiny_fastinst,
    tiny_mask_rtdetr,
    tiny_maskdino,
    tiny_model,
    tiny_ppyoloe_seg,
    tiny_solov2,
    tiny_sparseinst,
)

OLD, NEW = ["cup", "pen", "key", "coin", "nut"], ["nut", "bolt", "pen"]
MODELS = {
    "InstaRTDETR": tiny_model, "FastInst": tiny_fastinst, "MaskRTDETR": tiny_mask_rtdetr, "MaskDINO": tiny_maskdino,
    "SparseInst": tiny_sparseinst, "PPYOLOESeg": tiny_ppyoloe_seg, "SOLOv2": tiny_solov2,
}  # fmt: skip


@pytest.fixture(params=MODELS)
def build(request):
    return MODELS[request.param]


def class_tensors(model) -> dict[str, int]:
    """Name -> rows behind those of the classes."""
    extras = {name: num_extra_rows(name, model.class_layers) for name in model.state_dict()}
    return {name: extra for name, extra in extras.items() if extra is not None}


def transfer(build, folder, old=OLD, new=NEW, size=None):
    """A model of the new classes that has loaded one of the old; that one's weights; the new one's from before."""
    first = build("MODEL.NUM_CLASSES", size or len(old), seed=0)
    with torch.no_grad():  # biases and embeddings that are alike in all rows would hide a wrong row
        for name in class_tensors(first):
            first.state_dict()[name].normal_()
    Checkpointer(first, str(folder), class_names=old).save("first")
    second = build("MODEL.NUM_CLASSES", len(new), seed=1)
    before = {name: value.clone() for name, value in second.state_dict().items()}
    Checkpointer(second, class_names=new).load(str(folder / "first.pth"))
    return first.state_dict(), before, second


def test_a_model_states_exactly_the_tensors_that_the_number_of_classes_changes(build):
    five, three = build().state_dict(), build("MODEL.NUM_CLASSES", 3).state_dict()
    assert set(class_tensors(build())) == {name for name in five if five[name].shape != three[name].shape}
    assert count_classes(five, build().class_layers) == 5


def test_rows_are_kept_by_name_and_the_rest_stays_as_initialised(build, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "fvcore"):
        old, before, model = transfer(build, tmp_path)
    new = model.state_dict()
    for name, extra in class_tensors(model).items():
        assert torch.equal(new[name][0], old[name][OLD.index("nut")]), name
        assert torch.equal(new[name][1], before[name][1]), name
        assert torch.equal(new[name][2], old[name][OLD.index("pen")]), name
        assert extra == 0 or torch.equal(new[name][3:], old[name][5:]), name
    shared = set(new) - set(class_tensors(model))
    assert all(torch.equal(new[name], old[name]) for name in shared)
    (line,) = [record.message for record in caplog.records if record.message.startswith("classes:")]
    assert line == (
        "classes: 2 kept by name (nut, pen); 1 new, left as initialised (bolt); 3 of the checkpoint not used"
    )


def test_the_same_classes_in_another_order_are_reordered(build, tmp_path):
    old, _, model = transfer(build, tmp_path, new=OLD[::-1])
    for name in class_tensors(model):
        assert torch.equal(model.state_dict()[name][:5], old[name][:5].flip(0))


def test_unnamed_weights_of_80_classes_are_cocos(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "fvcore"):
        old, before, model = transfer(tiny_model, tmp_path, old=[], new=["cat", "nut"], size=80)
    name = "decoder.class_heads.0.weight"
    assert torch.equal(model.state_dict()[name][0], old[name][15])
    assert torch.equal(model.state_dict()[name][1], before[name][1])
    assert "does not name its 80 classes: taken for COCO's" in caplog.text


def test_unnamed_weights_of_as_many_classes_are_loaded_in_order_and_said_so(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "fvcore"):
        old, _, model = transfer(tiny_model, tmp_path, old=[], new=NEW, size=3)
    assert all(torch.equal(model.state_dict()[name], old[name]) for name in old)
    assert "does not name its 3 classes: taken for the model's, in order" in caplog.text


def test_unnamed_weights_of_another_number_leave_the_heads_as_initialised(tmp_path, caplog):
    _, before, model = transfer(tiny_model, tmp_path, old=[], new=NEW, size=5)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in class_tensors(model))
    assert "of another number of classes in the checkpoint" in caplog.text


def test_a_file_says_its_classes_and_config(tmp_path):
    Checkpointer(tiny_model(), str(tmp_path), class_names=OLD, config="A: 1").save("model_final")
    content = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert content["class_names"] == OLD and content["config"] == "A: 1"


def test_a_training_does_not_go_on_with_other_classes(tmp_path):
    model = tiny_model()
    Checkpointer(model, str(tmp_path), class_names=OLD, ema=ModelEMA(model, 0.5, 1)).save("model_0000001")
    other = Checkpointer(model, str(tmp_path), class_names=OLD[::-1], ema=ModelEMA(model, 0.5, 1))
    with pytest.raises(CheckpointError, match=r"trained on the classes cup, pen.*the dataset has nut.*OUTPUT_DIR"):
        other.resume_or_load("", resume=True)


def test_the_summary_counts_what_is_not_used():
    assert ClassMatch(["a", "b"], ["b"]).summary() == (
        "classes: 1 kept by name (b); 0 new, left as initialised (none); 1 of the checkpoint not used"
    )
