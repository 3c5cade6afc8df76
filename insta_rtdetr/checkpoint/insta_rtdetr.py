"""Rules that rename Insta-RT-DETR's and RT-DETR's parameters from the original code's names to ours.

Source: https://github.com/dwikifkurniawan/Insta-RT-DETR-PyTorch/tree/8458661
"""

import re

from torch import Tensor

# (pattern of the original's name, our name); the first pattern that matches is used.
_RENAMES = [
    (r"backbone\.conv1\.conv1_1\.conv", r"backbone.conv1.0"),
    (r"backbone\.conv1\.conv1_1\.norm", r"backbone.conv1.1"),
    (r"backbone\.conv1\.conv1_2\.conv", r"backbone.conv1.3"),
    (r"backbone\.conv1\.conv1_2\.norm", r"backbone.conv1.4"),
    (r"backbone\.conv1\.conv1_3\.conv", r"backbone.conv1.6"),
    (r"backbone\.conv1\.conv1_3\.norm", r"backbone.bn1"),
    (r"encoder\.encoder\.0\.layers\.", r"encoder.aifi.layers."),
    (r"encoder\.fusion_lateral_convs\.", r"encoder.mask_fusion.lateral."),
    (r"encoder\.fusion_output_conv\.", r"encoder.mask_fusion.output."),
    (r"encoder\.(fpn|pan)_blocks\.(\d+)\.bottlenecks\.", r"encoder.\1_blocks.\2.blocks."),
    (r"decoder\.decoder\.layers\.", r"decoder.layers."),
    (r"decoder\.query_pos_head\.", r"decoder.position_head."),
    (r"decoder\.dec_score_head\.", r"decoder.class_heads."),
    (r"decoder\.dec_bbox_head\.", r"decoder.box_heads."),
    (r"decoder\.mask_query_embed\.", r"decoder.mask_head.embedding."),
    (r"decoder\.denoising_class_embed\.", r"denoising.label_embedding."),
    (r"decoder\.enc_output\.0\.", r"query_selection.token_projection."),
    (r"decoder\.enc_output\.1\.", r"query_selection.token_norm."),
    (r"decoder\.enc_score_head\.", r"query_selection.class_head."),
    (r"decoder\.enc_bbox_head\.", r"query_selection.box_head."),
]
_BLOCK = re.compile(r"backbone\.res_layers\.(\d)\.blocks\.(\d+)\.(.*)")
BRANCHES = {"branch2a": "1", "branch2b": "2", "branch2c": "3"}
_PROJECTION = re.compile(r"(encoder|decoder)\.input_proj\.(\d)\.(0|1|conv|norm)\.(.*)")
# Layers that the original builds but never uses.
_UNUSED = ("encoder.mask_features.",)
# In a file with a ResNet-vd alone, the names have no prefix.
_BARE_BACKBONE = "res_layers."


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return any(name.startswith(("decoder.enc_score_head.", _BARE_BACKBONE)) for name in state)


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of Insta-RT-DETR-PyTorch, of RT-DETR without masks, or of their ResNet-vd alone.

    Args:
        state: the original's state dict.

    Returns:
        A state dict of our `InstaRTDETR`.
    """
    has_masks = any(name.startswith("decoder.mask_query_embed.") for name in state)
    prefix = "backbone." if any(name.startswith(_BARE_BACKBONE) for name in state) else ""
    return {
        _rename(prefix + name, has_masks): value for name, value in state.items() if not name.startswith(_UNUSED)
    }


def _rename(name: str, has_masks: bool) -> str:
    if block := _BLOCK.fullmatch(name):
        return _rename_block(*block.groups())
    if projection := _PROJECTION.fullmatch(name):
        return _rename_projection(*projection.groups(), has_masks)
    return rename_first(name, _RENAMES).replace("encoder.fpn_blocks.", "encoder.top_down_blocks.").replace(
        "encoder.pan_blocks.", "encoder.bottom_up_blocks."
    )


def rename_first(name: str, renames: list[tuple[str, str]]) -> str:
    """Replace the first pattern that matches the beginning of the name."""
    for pattern, replacement in renames:
        renamed, count = re.subn(rf"^{pattern}", replacement, name)
        if count:
            return renamed
    return name


def _rename_block(stage: str, block: str, rest: str) -> str:
    """Rename `branch2a.conv.weight` to `conv1.weight`, `short.conv.conv.weight` to `downsample.1.weight`, and so on."""
    part, kind, parameter = re.fullmatch(r"(\w+?)\.(?:conv\.(?=conv|norm))?(conv|norm)\.(\w+)", rest).groups()
    prefix = f"backbone.layer{int(stage) + 1}.{block}"
    if part == "short":
        return f"{prefix}.downsample.{1 if kind == 'conv' else 2}.{parameter}"
    return f"{prefix}.{'conv' if kind == 'conv' else 'bn'}{BRANCHES[part]}.{parameter}"


def _rename_projection(part: str, level: str, kind: str, parameter: str, has_masks: bool) -> str:
    kind = {"0": "conv", "1": "norm"}.get(kind, kind)
    # In a model with masks, the first projection belongs to the mask features.
    index = int(level) - has_masks
    if index < 0:
        owner = "encoder.mask_fusion.projection" if part == "encoder" else "decoder.mask_head.projection"
    else:
        owner = f"encoder.input_projections.{index}" if part == "encoder" else f"level_projection.projections.{index}"
    return f"{owner}.{kind}.{parameter}"
