"""Conversion of timm's ResNets and of the original's checkpoints."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import timm
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.convert import convert
from insta_rtdetr.checkpoint.timm import backbone_from_timm
from insta_rtdetr.errors import CheckpointError
from insta_rtdetr.modeling.backbone import ResNetVD
from tests.parity.reference import FOLDER
from tests.tiny import tiny_model

TOOLS = Path(__file__).parents[2] / "tools"
LEVELS = ["res2", "res3", "res4", "res5"]


def run_tool(monkeypatch, name: str, *arguments: Path) -> int:
    """Run a command-line tool in this process, because starting one takes longer than all the rest; its exit code."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / name), run_name="__main__")
    return end.value.code


def timm_resnet(name: str):
    """A timm ResNet whose batch norms do something."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    return model


def assert_same_features(backbone, reference, image):
    with torch.no_grad():
        expected = reference.forward_intermediates(image, intermediates_only=True)[-4:]
        for level, features in zip(LEVELS, expected, strict=True):
            torch.testing.assert_close(backbone(image)[level], features, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("depth", [18, 50])
def test_timm_resnet_d_gives_the_same_features_as_resnet_vd(depth, tmp_path, monkeypatch):
    reference = timm_resnet(f"resnet{depth}d")
    source, converted = tmp_path / "timm.pth", tmp_path / "d2.pth"
    torch.save(reference.state_dict(), source)
    assert run_tool(monkeypatch, "convert-timm-to-d2.py", source, converted) == 0
    model = torch.nn.Module()
    model.backbone = ResNetVD(depth=depth, norm="FrozenBN", freeze_at=0, out_features=LEVELS).eval()
    Checkpointer(model).load(str(converted))
    assert_same_features(model.backbone, reference, torch.rand(1, 3, 64, 96))


def test_plain_timm_resnet_gives_the_same_features_as_detectron2s(tmp_path):
    reference = timm_resnet("resnet50")
    torch.save({"state_dict": None, "model": reference.state_dict()}, tmp_path / "timm.pth")
    convert(str(tmp_path / "timm.pth"), str(tmp_path / "d2.pkl"), backbone_from_timm)
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = LEVELS
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    model = torch.nn.Module()
    model.backbone = build_resnet_backbone(cfg, ShapeSpec(channels=3)).eval()
    Checkpointer(model).load(str(tmp_path / "d2.pkl"))
    assert_same_features(model.backbone, reference, torch.rand(1, 3, 64, 64))


def test_original_checkpoint_is_converted(tmp_path, monkeypatch, capsys):
    names = json.loads((FOLDER / "insta_rtdetr_r50vd.keys.json").read_text())
    torch.save({"model": {name: torch.zeros(1) for name in names}}, tmp_path / "original.pth")
    command = ["convert-checkpoint.py", tmp_path / "original.pth", tmp_path / "d2.pth"]
    assert run_tool(monkeypatch, *command) == 0
    written = torch.load(tmp_path / "d2.pth")["model"]
    assert capsys.readouterr().out == f"wrote {len(written)} tensors to {tmp_path / 'd2.pth'}\n"
    assert "decoder.mask_head.embedding.layers.0.weight" in written
    assert run_tool(monkeypatch, *command) == 1
    error = capsys.readouterr().err
    assert error.endswith("exists; choose another destination or remove it first.\n") and error.count("\n") == 1


def test_other_networks_are_refused():
    with pytest.raises(CheckpointError, match="not a timm ResNet"):
        backbone_from_timm({"blocks.0.weight": torch.zeros(1)})


def test_half_precision_is_half_the_size_and_loads_as_full_precision(tmp_path):
    model, again = tiny_model(seed=0), tiny_model(seed=1)
    torch.save({"model": model.state_dict()}, tmp_path / "full.pth")
    convert(str(tmp_path / "full.pth"), str(tmp_path / "half.pth"), half_precision=True)
    assert (tmp_path / "half.pth").stat().st_size < 0.6 * (tmp_path / "full.pth").stat().st_size
    Checkpointer(again).load(str(tmp_path / "half.pth"))
    for name, value in again.state_dict().items():
        assert value.dtype == model.state_dict()[name].dtype
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-4)
