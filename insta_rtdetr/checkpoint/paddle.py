"""Rules that rename and transpose the parameters of PaddlePaddle's Mask-RT-DETR and PP-HGNetV2 for our models.

Source: https://github.com/PaddlePaddle/PaddleDetection/tree/666f597
"""

import re

import torch
from torch import Tensor

from .insta_rtdetr import rename_first

# (pattern of the original's name, our name); the first pattern that matches is used.
_RENAMES = [
    (r"transformer\.input_proj\.", r"level_projection.projections."),
    (r"transformer\.decoder\.layers\.", r"decoder.layers."),
    (r"transformer\.query_pos_head\.", r"decoder.position_head."),
    (r"transformer\.mask_query_head\.", r"decoder.mask_head.embedding."),
    (r"transformer\.dec_norm\.", r"decoder.norm."),
    (r"transformer\.score_head\.", r"decoder.class_head."),
    (r"transformer\.bbox_head\.", r"decoder.box_head."),
    (r"transformer\.denoising_class_embed\.", r"denoising.label_embedding."),
    (r"transformer\.enc_output\.0\.", r"query_selection.token_projection."),
    (r"transformer\.enc_output\.1\.", r"query_selection.token_norm."),
    (r"neck\.input_proj\.(\d)\.0\.", r"encoder.input_projections.\1.conv."),
    (r"neck\.input_proj\.(\d)\.1\.", r"encoder.input_projections.\1.norm."),
    (r"neck\.encoder\.0\.layers\.", r"encoder.aifi.layers."),
    (r"neck\.fpn_blocks\.(\d)\.", r"encoder.top_down_blocks.\1."),
    (r"neck\.pan_blocks\.(\d)\.", r"encoder.bottom_up_blocks.\1."),
    (r"neck\.mask_feat_head\.output_conv\.", r"encoder.mask_fusion.fusion."),
    (r"neck\.enc_mask_lateral\.", r"encoder.mask_fusion.lateral."),
    (r"neck\.enc_mask_output\.0\.", r"encoder.mask_fusion.output."),
    (r"neck\.enc_mask_output\.1\.", r"decoder.mask_head.projection."),
    (r"neck\.", r"encoder."),
]
# PaddlePaddle's and PyTorch's names of the statistics of batch norm.
STATISTICS = [(r"\._mean$", r".running_mean"), (r"\._variance$", r".running_var")]
_EVERYWHERE = [
    *STATISTICS,
    (r"\.aggregation_squeeze_conv\.", r".aggregation.0."),
    (r"\.aggregation_excitation_conv\.", r".aggregation.1."),
    (r"\.bottlenecks\.", r".blocks."),
]
# In the original's list, convolutions and enlargements alternate, so our indices are half of the original's.
_MASK_LEVEL = re.compile(r"neck\.mask_feat_head\.scale_heads\.(\d)\.(\d)\.0\.(.*)")
_LABEL_EMBEDDING = "transformer.denoising_class_embed.weight"
# In a file with a PP-HGNetV2 alone, the names have no prefix.  Its classifier is not used.
_BARE_BACKBONE = ("stem.stem1.", "stages.0.")
_BACKBONE_PARTS = ("stem.", "stages.")


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return any(name.endswith("._variance") for name in state)


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename and transpose the weights of Mask-RT-DETR, or of a PP-HGNetV2 alone.

    Args:
        state: the original's state dict, in which a linear layer's weight is (in, out).

    Returns:
        A state dict of our `MaskRTDETR`, or of its backbone.
    """
    if any(name.startswith(_BARE_BACKBONE) for name in state):
        state = {f"backbone.{name}": value for name, value in state.items() if name.startswith(_BACKBONE_PARTS)}
    return {_rename(name): _relayout(name, value) for name, value in state.items()}


def _relayout(name: str, value: Tensor) -> Tensor:
    if name == _LABEL_EMBEDDING:
        # Our label embedding has one more row, for padding.
        return torch.cat([value, value.new_zeros(1, value.shape[1])])
    return value.T.contiguous() if value.dim() == 2 else value


def _rename(name: str) -> str:
    for pattern, replacement in _EVERYWHERE:
        name = re.sub(pattern, replacement, name)
    if name.startswith("backbone."):
        return name
    name = name.replace(".bn.", ".norm.")
    if level := _MASK_LEVEL.fullmatch(name):
        index, position, rest = level.groups()
        return f"encoder.mask_fusion.level_convs.{index}.{int(position) // 2}.{rest}"
    return rename_first(name, _RENAMES)
