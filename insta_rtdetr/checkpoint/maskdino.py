"""Names of Mask DINO's parameters in the original code and in ours.

Source: https://github.com/IDEA-Research/MaskDINO/tree/3831d85
"""

import re

import torch
from torch import Tensor

from .insta_rtdetr import rename_first

_ENCODER = r"sem_seg_head\.pixel_decoder\."
_DECODER = r"sem_seg_head\.predictor\."
# (pattern of the original, our name); the first that matches is used.
_RENAMES = [
    (_ENCODER + r"transformer\.level_embed", r"encoder.level_embedding"),
    (_ENCODER + r"transformer\.encoder\.layers\.", r"encoder.layers."),
    (_ENCODER + r"adapter_1\.", r"encoder.mask_fusion.lateral."),
    (_ENCODER + r"layer_1\.", r"encoder.mask_fusion.output."),
    (_ENCODER + r"mask_features\.", r"decoder.mask_head.projection."),
    (_DECODER + r"mask_embed\.", r"decoder.mask_head.embedding."),
    (_DECODER + r"enc_output\.", r"query_selection.token_projection."),
    (_DECODER + r"enc_output_norm\.", r"query_selection.token_norm."),
    (_DECODER + r"class_embed\.", r"decoder.class_head."),
    (_DECODER + r"_bbox_embed\.", r"decoder.box_head."),
    (_DECODER + r"decoder_norm\.", r"decoder.norm."),
    (_DECODER + r"label_enc\.", r"denoising.label_embedding."),
    (_DECODER + r"decoder\.ref_point_head\.", r"decoder.position_head."),
    # The norm of the original's self-attention, which comes first, has the second number.
    (_DECODER + r"decoder\.layers\.(\d+)\.norm1\.", r"decoder.layers.\1.norm2."),
    (_DECODER + r"decoder\.layers\.(\d+)\.norm2\.", r"decoder.layers.\1.norm1."),
    (_DECODER + r"decoder\.layers\.", r"decoder.layers."),
]
_PROJECTION = re.compile(_ENCODER + r"input_proj\.(\d)\.(0|1)\.(weight|bias)")
# Weights of the loss, which we compute from the config, and other names of the box head and of the norm.
_UNUSED = re.compile(r"criterion\.empty_weight|" + _DECODER + r"(decoder\.)?(bbox_embed|norm)\..*")
# Of our names: layers with rows for each level.
_LEVEL_ROWS = re.compile(r"(encoder|decoder)\.layers\.\d+\.\w+\.(sampling_offsets|attention_weights)\.\w+")
# Of deformable attention in all of the original's configs.
_NUM_HEADS = 8
_LEVEL_EMBEDDING = "sem_seg_head.pixel_decoder.transformer.level_embed"
_LABEL_EMBEDDING = "sem_seg_head.predictor.label_enc.weight"


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return _LEVEL_EMBEDDING in state and _LABEL_EMBEDDING in state


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of Mask DINO, and put levels into the order from the finest to the coarsest.

    The original's encoder has them in that order ("low2high") or in the opposite one, and its decoder in the other.

    Args:
        state: the original's state dict.

    Returns:
        A state dict of our `MaskDINO`.
    """
    kernels = [state[f"sem_seg_head.pixel_decoder.input_proj.{i}.0.weight"] for i in range(_num_levels(state))]
    # Coarser levels of the backbone are wider.
    is_coarsest_first = kernels[0].shape[1] > kernels[1].shape[1]
    projections = _projection_names(kernels, is_coarsest_first)
    is_reversed = {"encoder": is_coarsest_first, "decoder": not is_coarsest_first}
    renamed = {}
    for name, value in state.items():
        if _UNUSED.fullmatch(name):
            continue
        new_name = _rename(name, projections)
        if name == _LABEL_EMBEDDING:
            # Our last row is that of padding.
            value = torch.cat([value, value.new_zeros(1, value.shape[1])])
        if name == _LEVEL_EMBEDDING and is_reversed["encoder"]:
            value = value.flip(0)
        if (rows := _LEVEL_ROWS.fullmatch(new_name)) and is_reversed[rows[1]]:
            value = value.unflatten(0, (_NUM_HEADS, _num_levels(state), -1)).flip(1).flatten(0, 2)
        renamed[new_name] = value
    return renamed


def _num_levels(state: dict[str, Tensor]) -> int:
    return len(state[_LEVEL_EMBEDDING])


def _projection_names(kernels: list[Tensor], is_coarsest_first: bool) -> list[str]:
    """Our names of the projections of each level: of the backbone's (1x1), and of those that halve (3x3)."""
    num_extra = sum(kernel.shape[2] > 1 for kernel in kernels)
    plain = [f"encoder.input_projections.{i}" for i in range(len(kernels) - num_extra)]
    extra = [f"encoder.extra_projections.{i}" for i in range(num_extra)]
    return (plain[::-1] if is_coarsest_first else plain) + extra


def _rename(name: str, projections: list[str]) -> str:
    if projection := _PROJECTION.fullmatch(name):
        index, part, parameter = projection.groups()
        return f"{projections[int(index)]}.{'norm.' if part == '1' else ''}{parameter}"
    return rename_first(name, _RENAMES)
