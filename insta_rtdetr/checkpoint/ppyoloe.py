"""Names of the parameters of PaddlePaddle's PP-YOLOE_seg, PP-YOLOE+ and CSPRepResNet in the original code and in ours.

Source: https://github.com/PaddlePaddle/PaddleDetection/tree/666f597
"""

import re

import torch
from torch import Tensor

from .insta_rtdetr import rename_first
from .paddle import STATISTICS

# The numbers 0 to R - 1, which the original stores as a convolution that is never trained.
_BINS = "yolo_head.proj_conv.weight"
_SCALE = ".alpha"
_BRANCHES = {"cls": "class", "reg": "side", "ins": "mask"}
# (pattern of the original's name, our name); the first pattern that matches is used.
_RENAMES = [
    (r"yolo_head\.proto\.conv1\.", r"encoder.prototypes.0."),
    (r"yolo_head\.proto\.upsample\.", r"encoder.prototypes.1."),
    (r"yolo_head\.proto\.conv2\.", r"encoder.prototypes.2."),
    (r"yolo_head\.proto\.conv3\.", r"encoder.prototypes.3."),
    (r"backbone\.stages\.(\d)\.conv_down\.", r"backbone.stages.\1.0."),
    (r"backbone\.stages\.(\d)\.attn\.fc\.", r"backbone.stages.\1.1.attention.projection."),
    (r"backbone\.stages\.(\d)\.", r"backbone.stages.\1.1."),
]
_STEM = re.compile(r"backbone\.stem\.conv(\d)\.(.*)")
_NECK = re.compile(r"neck\.(fpn_stages|fpn_routes|pan_stages|pan_routes)\.(\d)\.(?:0\.(?=conv))?(.*)")
_CHAIN = re.compile(r"convs\.(\d|spp)\.(.*)")
_HEAD = re.compile(r"yolo_head\.(stem|pred)_(cls|reg|ins)\.(\d)\.(.*)")
# In a file with a CSPRepResNet alone, the names have no prefix.
_BARE_BACKBONE = "stages.0.attn.fc.weight"


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return _BINS in state or _BARE_BACKBONE in state


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights; the original's levels begin with the coarsest, ours with the finest.

    Args:
        state: the original's state dict.

    Returns:
        A state dict of our `PPYOLOESeg`, of the part of it that PP-YOLOE+ has, or of its backbone.
    """
    if _BARE_BACKBONE in state:
        state = {f"backbone.{name}": value for name, value in state.items()}
    num_levels = len({name.split(".")[2] for name in state if name.startswith("yolo_head.pred_cls.")})
    num_blocks = len({name.split(".")[5] for name in state if name.startswith("neck.fpn_stages.0.0.convs.")}) - 1
    return {
        _rename(name, num_levels, num_blocks): _used_scale(value) if name.endswith(_SCALE) else value
        for name, value in state.items()
        if name != _BINS
    }


def _used_scale(scale: Tensor) -> Tensor:
    """Return what the original multiplies a branch by: to PaddlePaddle, a number that is not positive is no scale."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _rename(name: str, num_levels: int, num_blocks: int) -> str:
    for pattern, replacement in [*STATISTICS, (r"\.bn\.", ".norm."), (r"\.alpha$", ".scale")]:
        name = re.sub(pattern, replacement, name)
    if stem := _STEM.fullmatch(name):
        return f"backbone.stem.{int(stem[1]) - 1}.{stem[2]}"
    if head := _HEAD.fullmatch(name):
        kind, branch, level, rest = head.groups()
        part = "stems" if kind == "stem" else "heads"
        return f"head.{_BRANCHES[branch]}_{part}.{num_levels - 1 - int(level)}.{re.sub('^fc', 'gate', rest)}"
    if neck := _NECK.fullmatch(name):
        kind, level, rest = neck.groups()
        is_coarsest = kind == "fpn_stages" and level == "0"
        # Pooling follows the middle block.
        pooling = (num_blocks - 1) // 2 + 1 if is_coarsest else None
        return f"encoder.{_rename_step(kind, int(level), num_levels)}.{_rename_chain(rest, pooling)}"
    return rename_first(name, _RENAMES)


def _rename_step(kind: str, level: int, num_levels: int) -> str:
    """Rename a part of the pyramid; those between two levels are counted by the finer level."""
    if kind == "fpn_stages":
        return f"top_down_blocks.{num_levels - 1 - level}" if level else "coarsest_block"
    ours = {"fpn_routes": "lateral_convs", "pan_stages": "bottom_up_blocks", "pan_routes": "downsample_convs"}
    return f"{ours[kind]}.{num_levels - 2 - level}"


def _rename_chain(rest: str, pooling: int | None) -> str:
    """Rename a block of a chain, in which pooling may have a place; in ours it is counted as one of the blocks."""
    found = _CHAIN.fullmatch(rest)
    if not found:
        return rest
    index, rest = found.groups()
    place = pooling if index == "spp" else int(index) + (pooling is not None and int(index) >= pooling)
    return f"blocks.{place}.{rest}"
