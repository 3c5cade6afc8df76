"""tools/checkpoint.py: what a file is, and the same file with some of its classes."""

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.contents import drop_classes, keep_classes, read_contents
from insta_rtdetr.errors import CheckpointError
from tests.checkpoint.test_classes import MODELS, OLD, class_tensors
from tests.parity.reference import original_state_dict
from tests.tiny import tiny_config

TOOL = Path(__file__).resolve().parents[2] / "tools" / "checkpoint.py"


@pytest.fixture(params=MODELS)
def trained(request, tmp_path):
    """A model and the file of its checkpoint, which says its classes and config."""
    model = MODELS[request.param]()
    config = tiny_config("MODEL.META_ARCHITECTURE", request.param).dump()
    Checkpointer(model, str(tmp_path), class_names=OLD, config=config).save("trained", iteration=7)
    return model, tmp_path / "trained.pth"


def run_tool(*arguments):
    spec = importlib.util.spec_from_file_location("checkpoint_tool", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main([str(argument) for argument in arguments])


def lines_of(capsys):
    return dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())


def test_info_says_what_a_checkpoint_of_ours_is(trained, capsys):
    model, file = trained
    run_tool("info", file)
    lines = {key: value.strip() for key, value in lines_of(capsys).items()}
    assert lines["model"] == type(model).__name__ and lines["iteration"] == "7"
    assert lines["classes"] == "5 (cup, pen, key, coin, nut)"
    assert lines["keys"] == "model, iteration, class_names, config"
    count = sum(value.numel() for value in model.state_dict().values())
    assert lines["parameters"].startswith(f"{count / 1e6:.2f} M numbers in {len(model.state_dict())} tensors")


def test_info_writes_the_config_alone(trained, capsys):
    run_tool("info", trained[1], "--config")
    assert yaml.safe_load(capsys.readouterr().out)["MODEL"]["NUM_CLASSES"] == 5


@pytest.mark.parametrize(
    "name, model", [("insta_rtdetr_r50vd", "InstaRTDETR"), ("fastinst_R50_ppm-fpn_x1_576", "FastInst")]
)
def test_info_knows_the_originals(tmp_path, capsys, name, model):
    torch.save({"model": original_state_dict(name), "epoch": 3}, tmp_path / "original.pth")
    run_tool("info", tmp_path / "original.pth")
    lines = lines_of(capsys)
    assert lines["model"].strip() == model and "original code" in lines["format"]
    assert lines["classes"].strip() == "80 (not named, taken for COCO's)"


def test_keeping_classes_is_by_name_in_the_order_given(trained, tmp_path, capsys):
    model, file = trained
    run_tool("heads", file, tmp_path / "two.pth", "--keep", "nut", "cup")
    kept = read_contents(str(tmp_path / "two.pth"))
    assert kept.class_names == ["nut", "cup"] and kept.models == [type(model)]
    assert yaml.safe_load(kept.content["config"])["MODEL"]["NUM_CLASSES"] == 2
    old = model.state_dict()
    for name, extra in class_tensors(model).items():
        rows = [OLD.index("nut"), OLD.index("cup"), *range(5, 5 + extra)]
        assert torch.equal(kept.weights[name], old[name][rows]), name
    two = MODELS[type(model).__name__]("MODEL.NUM_CLASSES", 2)
    assert two.load_state_dict(kept.weights).missing_keys == []


def test_dropping_all_leaves_the_rest(trained, tmp_path):
    model, file = trained
    run_tool("heads", file, tmp_path / "none.pth", "--drop-all")
    left = read_contents(str(tmp_path / "none.pth"))
    assert set(left.weights) == set(model.state_dict()) - set(class_tensors(model))
    assert "class_names" not in left.content and "no class heads" in left.summary()


def test_wrong_requests_get_one_clear_line(trained, tmp_path):
    model, file = trained
    destination = str(tmp_path / "new.pth")
    with pytest.raises(CheckpointError, match=r"has no class gnu\. Its classes: cup, pen"):
        keep_classes(str(file), destination, ["gnu"])
    torch.save({"model": model.state_dict()}, tmp_path / "unnamed.pth")
    with pytest.raises(CheckpointError, match="does not name its classes"):
        keep_classes(str(tmp_path / "unnamed.pth"), destination, ["cup"])
    torch.save({"model": model.backbone.state_dict()}, tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match="has no class heads"):
        drop_classes(str(tmp_path / "backbone.pth"), destination)
    with pytest.raises(CheckpointError, match="exists"):
        drop_classes(str(file), str(file))
    assert not Path(destination).exists()
