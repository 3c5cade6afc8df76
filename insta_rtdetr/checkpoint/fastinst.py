"""Rules that rename FastInst's parameters from the original code's names to ours.

Source: https://github.com/junjiehe96/FastInst/tree/4996a61
"""

import re

from torch import Tensor

from .insta_rtdetr import rename_first

_PREDICTOR = r"sem_seg_head\.predictor\."
_PYRAMID = r"sem_seg_head\.pixel_decoder\."
_LEVELS = {"adapter": "lateral_convs", "layer": "output_convs"}
_BLOCKS = {
    "mask_cross_attention": "pixel_attention",
    "mask_ffn": "pixel_feedforward",
    "query_cross_attention": "query_cross_attention",
    "query_self_attention": "query_self_attention",
    "query_ffn": "query_feedforward",
}
# (pattern of the original's name, our name); the first pattern that matches is used.
_RENAMES = [
    (_PYRAMID + r"ppm\.stages\.(\d)\.1\.", r"encoder.pooling.projections.\1."),
    (_PYRAMID + r"ppm\.bottleneck\.", r"encoder.pooling.fusion."),
    (_PREDICTOR + r"meta_pos_embed", r"decoder.position_grid.grid"),
    (_PREDICTOR + r"empty_query_features\.", r"decoder.aux_content."),
    (_PREDICTOR + r"empty_query_pos_embed\.", r"decoder.aux_positions."),
    (_PREDICTOR + r"query_proposal\.conv_proposal_cls_logits\.", r"query_proposal.class_head."),
    (_PREDICTOR + r"decoder_query_norm_layers\.(\d+)\.", r"decoder.prediction_heads.\1.norm."),
    (_PREDICTOR + r"class_embed_layers\.(\d+)\.", r"decoder.prediction_heads.\1.class_head."),
    (_PREDICTOR + r"mask_embed_layers\.(\d+)\.", r"decoder.prediction_heads.\1.mask_head.embedding."),
    (_PREDICTOR + r"mask_features_layers\.(\d+)\.", r"decoder.prediction_heads.\1.mask_head.projection."),
]
_LEVEL = re.compile(_PYRAMID + r"(adapter|layer)_(\d)\.(.*)")
_LAYER = re.compile(_PREDICTOR + r"transformer_(\w+)_layers\.(\d+)\.(.*)")
_ATTENTION = [(r"(multihead_attn|self_attn)\.", r"attention.")]
# Class weights of the loss, which we compute from the config.
_UNUSED = "criterion.empty_weight"


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return "sem_seg_head.predictor.meta_pos_embed" in state


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of FastInst.

    Args:
        state: the original's state dict.

    Returns:
        A state dict of our `FastInst`.
    """
    return {_rename(name): value for name, value in state.items() if not name.endswith(_UNUSED)}


def _rename(name: str) -> str:
    if level := _LEVEL.fullmatch(name):
        kind, number, rest = level.groups()
        return f"encoder.{_LEVELS[kind]}.{int(number) - 1}.{rest}"
    if layer := _LAYER.fullmatch(name):
        block, number, rest = layer.groups()
        return f"decoder.layers.{number}.{_BLOCKS[block]}.{rename_first(rest, _ATTENTION)}"
    return rename_first(name, _RENAMES)
