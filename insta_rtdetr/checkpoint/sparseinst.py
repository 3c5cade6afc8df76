"""Names of SparseInst's parameters in the original code and in ours.

Source: https://github.com/hustvl/SparseInst/tree/a899015
"""

import re

from torch import Tensor

from .insta_rtdetr import rename_first

_BRANCH = r"decoder\.inst_branch\."
# (pattern of the original, our name); the first that matches is used.
_RENAMES = [
    (r"encoder\.ppm\.stages\.(\d)\.1\.", r"encoder.pooling.projections.\1."),
    (r"encoder\.ppm\.bottleneck\.", r"encoder.pooling.fusion."),
    (_BRANCH + r"inst_convs\.", r"decoder.instance_branch.convs."),
    (_BRANCH + r"iam_conv\.", r"decoder.instance_branch.activation."),
    (_BRANCH + r"fc\.", r"decoder.instance_branch.fusion."),
    (_BRANCH + r"cls_score\.", r"decoder.instance_branch.class_head."),
    (_BRANCH + r"mask_kernel\.", r"decoder.instance_branch.mask_embedding."),
    (_BRANCH + r"objectness\.", r"decoder.instance_branch.objectness."),
    (r"decoder\.mask_branch\.mask_convs\.", r"decoder.mask_convs."),
    (r"decoder\.mask_branch\.projection\.", r"decoder.mask_projection."),
]
_LEVEL = re.compile(r"encoder\.fpn_(lateral|output)s\.(\d)\.(.*)")
_ACTIVATION = "decoder.inst_branch.iam_conv.weight"


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return _ACTIVATION in state


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of SparseInst; the original's levels begin with the coarsest, ours with the finest.

    Args:
        state: the original's state dict.

    Returns:
        A state dict of our `SparseInst`.
    """
    num_levels = sum(name.startswith("encoder.fpn_laterals.") and name.endswith(".weight") for name in state)
    return {_rename(name, num_levels): value for name, value in state.items()}


def _rename(name: str, num_levels: int) -> str:
    if level := _LEVEL.fullmatch(name):
        kind, number, rest = level.groups()
        return f"encoder.{kind}_convs.{num_levels - 1 - int(number)}.{rest}"
    return rename_first(name, _RENAMES)
