"""Tests of Detectron2's FPN with a timm backbone: levels, learning rates and ImageNet weights."""

import timm
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.engine.optimizer import parameter_groups


def fpn_model() -> nn.Module:
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.TIMM.NAME = "build_timm_fpn_backbone", "mobilenetv2_035"
    cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS = ["res2", "res3", "res4", "res5"], 16
    return nn.ModuleDict({"backbone": build_backbone(cfg)})


def test_levels_have_the_strides_4_to_64():
    levels = fpn_model()["backbone"](torch.zeros(1, 3, 64, 96))
    shapes = {name: tuple(level.shape[1:]) for name, level in levels.items()}
    assert shapes == {f"p{i}": (16, 64 >> i, 96 >> i) for i in (2, 3, 4, 5)} | {"p6": (16, 1, 2)}


def test_only_the_pretrained_part_learns_with_the_factor_of_backbones():
    model = fpn_model()
    groups = parameter_groups(model, 1.0, 0.25, 0.0, 0.0, 0.0)
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[parameter] == (0.25 if "bottom_up" in name else 1.0), name


def test_weights_of_imagenet_reach_the_backbone_below_the_pyramid(tmp_path):
    torch.save(timm.create_model("mobilenetv2_035").state_dict(), tmp_path / "imagenet.pth")
    checkpointer = Checkpointer(fpn_model())
    checkpointer.load(str(tmp_path / "imagenet.pth"))
    assert checkpointer.unloaded and all("bottom_up" not in name for name in checkpointer.unloaded)
