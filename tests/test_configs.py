"""Every config builds its model, and every key of ours is read by some code."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.zoo import find_config
from tests.tiny import training_input

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(file for file in (ROOT / "configs").rglob("*.yaml") if not file.name.startswith("Base-"))
STRIDES = {"res2": 4, "res3": 8}
# In millions; that of the published model is the original's, without the 1x1 convolution that it builds and never uses.
# Those of Mask-RT-DETR, in PaddlePaddle's count, are in its parity test.
PARAMETERS = {"insta_rtdetr_R50vd_D6_640": 43.88}


def load(file):
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.merge_from_file(str(file))
    cfg.MODEL.DEVICE, cfg.MODEL.TIMM.PRETRAINED = "cpu", False
    return cfg


@pytest.mark.parametrize("file", [file for file in CONFIGS if "rcnn" not in file.stem], ids=lambda file: file.stem)
def test_config_builds_a_model_that_runs(file):
    cfg = load(file)
    cfg.INPUT.FIXED_SIZE = (64, 64)
    model = build_model(cfg).eval()
    raw = model.forward_raw([{"image": torch.zeros(3, 64, 64)}])
    # FastInst has a class "no object", and its masks are at the stride of its finest level.
    is_fastinst = cfg.MODEL.META_ARCHITECTURE == "FastInst"
    side = -(-64 // model.preprocessor.divisibility) * model.preprocessor.divisibility
    assert raw["class_logits"].shape[-1] == cfg.MODEL.NUM_CLASSES + is_fastinst
    stride = STRIDES[cfg.MODEL.ENCODER.IN_FEATURES[0]] if is_fastinst else cfg.MODEL.MASK_HEAD.STRIDE
    assert raw["mask_logits"].shape[-1] == side // stride
    if file.stem in PARAMETERS:
        count = sum(p.numel() for p in model.parameters()) / 1e6
        assert count == pytest.approx(PARAMETERS[file.stem], abs=0.01)


def test_mask_rcnn_learns_and_answers_with_the_backbone_of_the_models_beside_it():
    cfg = load(find_config("mask_rcnn_MNV2_FPN_320"))
    assert cfg.MODEL.TIMM.NAME == load(find_config("insta_rtdetr_MNV2_D3_320")).MODEL.TIMM.NAME
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    model = build_model(cfg)
    inputs = training_input(3)
    inputs["instances"].gt_classes.zero_()
    with EventStorage():
        losses = model([inputs])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    sum(losses.values()).backward()
    answer = model.eval()([inputs])[0]["instances"]
    assert answer.pred_masks.shape[1:] == (64, 64)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_output_folder_is_named_after_the_config(file):
    # Those of COCO and of the toy data have names of their own; the others have COCO's in a folder of the dataset.
    dataset = file.parent.parent.name
    folder = f"output/{dataset}" if dataset in ("ade20k", "cityscapes") else "output"
    assert f"{folder}/{file.stem}" == load(file).OUTPUT_DIR


def keys(node: CfgNode, prefix: str = "") -> set[str]:
    found = set()
    for name, value in node.items():
        found |= keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {prefix + name}
    return found


def test_every_key_of_ours_is_read_by_some_code():
    before = get_cfg()
    after = before.clone()
    add_insta_rtdetr_config(after)
    sources = [f for f in (ROOT / "insta_rtdetr").rglob("*.py") if f.name != "config.py"]
    code = "\n".join(file.read_text() for file in sources)
    unread = [key for key in keys(after) - keys(before) if not re.search(rf"\.{key.split('.')[-1]}\b", code)]
    assert unread == []


def test_adding_the_keys_twice_changes_nothing():
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.MODEL.NUM_CLASSES = 3
    add_insta_rtdetr_config(cfg)
    assert cfg.MODEL.NUM_CLASSES == 3
