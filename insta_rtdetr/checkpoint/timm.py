"""Rules that rename timm's ResNet weights for our ResNet-vd and for Detectron2's ResNet."""

import re

import torch
from torch import Tensor

from insta_rtdetr.errors import CheckpointError

_STAGE = re.compile(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)")
_SHORTCUT = re.compile(r"layer(\d)\.(\d+)\.downsample\.(\d)\.(\w+)")
_DEEP_STEM_KEY = "conv1.3.weight"


def backbone_from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a timm ResNet for the backbone of a Detectron2 model.

    The weights of a ResNet-d (with three stem convolutions) are for `build_resnet_vd_backbone`, those of any other
    ResNet for Detectron2's `build_resnet_backbone`.  The classifier is left out.

    Raises:
        CheckpointError: these are not the weights of a timm ResNet.
    """
    if "layer1.0.conv1.weight" not in state:
        raise CheckpointError(f"not a timm ResNet: it has {next(iter(state), 'no names')}, not layer1.0.conv1.weight.")
    state = {
        name: value
        for name, value in state.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
    if _DEEP_STEM_KEY in state:
        return {f"backbone.{name}": value for name, value in (state | _first_shortcut(state)).items()}
    return {f"backbone.{_detectron2_name(name)}": value for name, value in state.items()}


def _first_shortcut(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with which the 1x1 convolution that only our networks of basic blocks have is the identity."""
    if "layer1.0.downsample.1.weight" in state:
        return {}
    channels = state["layer1.0.conv1.weight"].shape[1]
    ones, zeros = torch.ones(channels), torch.zeros(channels)
    # The norm divides by sqrt(variance + 1e-5), which is 1 for this variance.
    return {
        "layer1.0.downsample.1.weight": torch.eye(channels)[:, :, None, None],
        "layer1.0.downsample.2.weight": ones,
        "layer1.0.downsample.2.bias": zeros,
        "layer1.0.downsample.2.running_mean": zeros.clone(),
        "layer1.0.downsample.2.running_var": ones - 1e-5,
    }


def _detectron2_name(name: str) -> str:
    if match := _STAGE.fullmatch(name):
        stage, block, kind, index, parameter = match.groups()
        return f"res{int(stage) + 1}.{block}.conv{index}{'.norm' if kind == 'bn' else ''}.{parameter}"
    if match := _SHORTCUT.fullmatch(name):
        stage, block, index, parameter = match.groups()
        return f"res{int(stage) + 1}.{block}.shortcut{'.norm' if index == '1' else ''}.{parameter}"
    return name.replace("conv1.", "stem.conv1.").replace("bn1.", "stem.conv1.norm.")
