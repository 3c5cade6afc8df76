"""RF-DETR's published files are taken as they are, and nothing in them is run."""

import argparse
import json
import types
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.rfdetr import coco_outputs, from_original, is_original
from insta_rtdetr.errors import CheckpointError
from tests.checkpoint.test_checkpointer import Evil
from tests.parity.reference import FOLDER
from tests.tiny import CONFIG_DIR, tiny_rfdetr_seg


@pytest.fixture(scope="module")
def original():
    """A state dict of the original's names and shapes, drawn."""
    shapes = json.loads((FOLDER / "rfdetr_seg_nano.keys.json").read_text())
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def nano():
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.merge_from_file(f"{CONFIG_DIR}/rfdetr_seg_nano_312.yaml")
    cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)


def test_classes_are_those_of_detectron2_and_the_rest_comes_last():
    meta = MetadataCatalog.get("coco_2017_val")
    outputs = coco_outputs()
    assert [meta.thing_dataset_id_to_contiguous_id[i] for i in outputs[:80]] == list(range(80))
    assert sorted(outputs) == list(range(91)) and outputs[80] == 0


def test_a_head_of_another_number_of_classes_keeps_its_order(original):
    few = {name: value[:7] if "class_embed" in name else value for name, value in original.items()}
    assert torch.equal(from_original(few)["decoder.class_head.weight"], original["class_embed.weight"][:7])


def test_a_detector_initialises_all_but_the_mask_head(original, tmp_path, caplog):
    detector = {name: value for name, value in original.items() if not name.startswith("segmentation_head.")}
    assert is_original(detector)
    torch.save({"model": detector, "args": argparse.Namespace(epochs=1)}, tmp_path / "detector.pth")
    model = nano()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with caplog.at_level("INFO"):
        Checkpointer(model).load(str(tmp_path / "detector.pth"))
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {name for name in before if name.startswith("decoder.mask_head.")}
    assert f"{len(kept)} tensors are not in the checkpoint, left as initialised: decoder.mask_head." in caplog.text


@pytest.mark.parametrize("arguments", [argparse.Namespace(lr=0.1, nested={"a": [1]}), types.SimpleNamespace(lr=0.1)])
def test_the_arguments_in_a_file_are_ignored(tmp_path, arguments):
    model = tiny_rfdetr_seg()
    torch.save({"model": model.state_dict(), "args": arguments}, tmp_path / "weights.pth")
    Checkpointer(model).load(str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("arguments", [Evil(), argparse.Namespace(lr=Evil()), Path("runs")])
def test_any_other_object_is_refused_in_one_line_and_not_run(tmp_path, capsys, arguments):
    model = tiny_rfdetr_seg()
    torch.save({"model": model.state_dict(), "args": arguments}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match="neither tensor nor number") as error:
        Checkpointer(model).load(str(tmp_path / "hostile.pth"))
    assert "\n" not in str(error.value)
    assert "code from a checkpoint ran" not in capsys.readouterr().out


def test_a_detector_of_another_patch_size_is_refused_in_one_line(original, tmp_path):
    other = original | {
        "backbone.0.encoder.encoder.embeddings.patch_embeddings.projection.weight": torch.zeros(384, 3, 16, 16)
    }
    torch.save({"model": other}, tmp_path / "patches_of_16.pth")
    with pytest.raises(CheckpointError, match=r"patch_embed.*\(384, 3, 16, 16\), expected \(384, 3, 12, 12\)"):
        Checkpointer(nano()).load(str(tmp_path / "patches_of_16.pth"))
