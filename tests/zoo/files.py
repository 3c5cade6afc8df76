"""Small files in the formats that authors publish, with their names and shapes."""

import argparse
import io
import json
import pickle

import numpy as np
import timm
import torch
from torch import Tensor

from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.predict.model import build_module
from tests.parity.recipe import tensor_for
from tests.parity.reference import FOLDER

Shapes = dict[str, list[int]]
TIMM_NAMES = {
    "resnet50d_timm": "resnet50d",
    "mobilenetv2_100_timm": "mobilenetv2_100",
    "dinov2_vits14": "vit_small_patch14_dinov2",
}


def published_bytes(config: str) -> bytes:
    """A file of weights for a config, as its authors would publish it.

    Every tensor is one number that depends on its name; the file holds each number once, where the format allows.
    """
    if config.startswith(("mask_rtdetr", "ppyoloe", "solov2")) or config.endswith("_paddlex"):
        return _as_paddle(_shapes(config))
    weights = {name: _tensor(name, shape) for name, shape in _shapes(config).items()}
    contents = {
        "insta_rtdetr": {"ema": {"module": weights}, "model": {}, "last_epoch": 49},
        "rfdetr": {"model": weights, "args": argparse.Namespace(num_classes=90)},
    }
    return _saved(next((value for key, value in contents.items() if config.startswith(key)), {"model": weights}))


def _shapes(config: str) -> Shapes:
    """Of the authors' tensors; of ours, under our names, where no list of theirs is at hand."""
    keys = FOLDER / f"{_parity_name(config)}.keys.json"
    if keys.is_file():
        return json.loads(keys.read_text())
    model = build_module(setup_cfg(config, ["MODEL.DEVICE", "cpu"]))
    return {name: list(value.shape) for name, value in model.state_dict().items()}


def _parity_name(config: str) -> str:
    """What tests/parity calls a model."""
    if config == "insta_rtdetr_R50vd_D6_640":
        return "insta_rtdetr_r50vd"
    if config.endswith("_paddlex"):
        return f"paddle_{config.removesuffix('_paddlex').replace('-SSLDv2', '')}"
    if config.startswith("solov2"):
        return "solov2_r50_fpn"
    if config.startswith(("fastinst", "sparse_inst")):
        # What is trained with crops has the model of what is not.
        return "sparse_inst_r50_giam" if config == "sparse_inst_r50_giam_aug" else config
    return config.rpartition("_")[0]


def _number(name: str, shape: list[int]) -> float:
    """As large as the numbers that `tensor_for` gives a tensor of this name and shape."""
    return float(tensor_for(name, [1] * len(shape)).ravel()[0]) / max(np.prod(shape[1:]), 1) ** 0.5


def _tensor(name: str, shape: list[int]) -> Tensor:
    return torch.tensor(_number(name, shape)).expand(shape)


def _saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _as_paddle(shapes: Shapes) -> bytes:
    """Half precision, because a pickle of arrays holds all their elements."""
    arrays = {name: np.full(shape, _number(name, shape), np.float16) for name, shape in shapes.items()}
    return pickle.dumps({**arrays, "StructuredToParameterName@@": {}}, protocol=4)


def backbone_bytes(name: str) -> bytes:
    """A file of weights for a backbone alone, as its authors would publish it."""
    if name.startswith("pphgnetv2"):
        return _as_paddle(_backbone_shapes(f"mask_rtdetr_hgnetv2_{name.split('_')[1]}_640"))
    if name == "resnet50vd_ssld_v2":
        shapes = _backbone_shapes("insta_rtdetr_R50vd_D6_640")
    else:
        shapes = {key: list(value.shape) for key, value in timm.create_model(TIMM_NAMES[name]).state_dict().items()}
    return _saved({key: _tensor(key, shape) for key, shape in shapes.items()})


def _backbone_shapes(config: str) -> Shapes:
    prefix = "backbone."
    return {key.removeprefix(prefix): shape for key, shape in _shapes(config).items() if key.startswith(prefix)}
