"""Rules that rename RF-DETR's parameters from the original code's names to ours.

Source: https://github.com/roboflow/rf-detr, release 1.11.2
"""

import re

import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

from .insta_rtdetr import rename_first

_BLOCK = r"backbone\.0\.encoder\.encoder\.encoder\.layer\.(\d+)\."
_EMBEDDINGS = r"backbone\.0\.encoder\.encoder\.embeddings\."
_PROJECTOR = r"backbone\.0\.projector\.stages\.0\.0\."
# (pattern of the original's name, our name); the first pattern that matches is used.
_RENAMES = [
    (_BLOCK + r"attention\.output\.dense\.", r"backbone.body.blocks.\1.attn.proj."),
    (_BLOCK + r"layer_scale(\d)\.lambda1", r"backbone.body.blocks.\1.ls\2.gamma"),
    (_BLOCK, r"backbone.body.blocks.\1."),
    (_EMBEDDINGS + r"position_embeddings", r"backbone.body.pos_embed"),
    (_EMBEDDINGS + r"patch_embeddings\.projection\.", r"backbone.body.patch_embed.proj."),
    (_EMBEDDINGS, r"backbone.body."),
    (r"backbone\.0\.encoder\.encoder\.layernorm\.", r"backbone.body.norm."),
    (_PROJECTOR + r"cv1\.(conv|bn)\.", r"encoder.input_conv.\1."),
    (_PROJECTOR + r"cv2\.(conv|bn)\.", r"encoder.output_conv.\1."),
    (_PROJECTOR + r"m\.(\d+)\.cv1\.", r"encoder.blocks.\1.0."),
    (_PROJECTOR + r"m\.(\d+)\.cv2\.", r"encoder.blocks.\1.1."),
    (r"backbone\.0\.projector\.stages\.0\.1\.", r"encoder.norm."),
    (r"transformer\.decoder\.ref_point_head\.", r"decoder.position_head."),
    (r"transformer\.decoder\.", r"decoder."),
    (r"transformer\.enc_output\.(\d+)\.", r"query_selection.groups.\1.token_projection."),
    (r"transformer\.enc_output_norm\.(\d+)\.", r"query_selection.groups.\1.token_norm."),
    (r"transformer\.enc_out_class_embed\.(\d+)\.", r"query_selection.groups.\1.class_head."),
    (r"transformer\.enc_out_bbox_embed\.(\d+)\.", r"query_selection.groups.\1.box_head."),
    (r"query_feat\.", r"query_selection.content."),
    (r"refpoint_embed\.", r"query_selection.box_deltas."),
    (r"class_embed\.", r"decoder.class_head."),
    (r"bbox_embed\.", r"decoder.box_head."),
    (r"segmentation_head\.blocks\.(\d+)\.dwconv\.", r"decoder.mask_head.blocks.\1.depthwise."),
    (r"segmentation_head\.blocks\.(\d+)\.pwconv1\.", r"decoder.mask_head.blocks.\1.pointwise."),
    (r"segmentation_head\.query_features_block\.norm_in\.", r"decoder.mask_head.query_norm."),
    (r"segmentation_head\.query_features_block\.layers\.0\.", r"decoder.mask_head.linear1."),
    (r"segmentation_head\.query_features_block\.layers\.2\.", r"decoder.mask_head.linear2."),
    (r"segmentation_head\.query_features_proj\.", r"decoder.mask_head.query_projection."),
    (r"segmentation_head\.spatial_features_proj\.", r"decoder.mask_head.projection."),
    (r"segmentation_head\.", r"decoder.mask_head."),
]
_ATTENTION = re.compile(_BLOCK + r"attention\.attention\.(query|key|value)\.(weight|bias)")
_CONV_NORM = re.compile(r"(encoder\..*)\.bn\.(weight|bias)")
_CONV = re.compile(r"(encoder\..*)\.conv\.weight")
# A token of DINOv2's pre-training, and a tensor for keypoints that the original registers in every model.
_UNUSED = ("mask_token", "_kp_active_mask")
# The published weights number classes by COCO's category ids, from 0, which no category has, to 90.
NUM_COCO_OUTPUTS = 91


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return "refpoint_embed.weight" in state and "transformer.enc_out_class_embed.0.weight" in state


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of RF-DETR, with or without a segmentation head.

    The outputs of class heads with 91 outputs are put into the order of `coco_outputs`.

    Args:
        state: the original's state dict.

    Returns:
        A state dict of our `RFDETRSeg`.
    """
    renamed = {}
    for name, value in state.items():
        if name.endswith(_UNUSED) or _ATTENTION.fullmatch(name):
            continue
        new_name = _rename(name)
        if "class_head." in new_name and len(value) == NUM_COCO_OUTPUTS:
            value = value[coco_outputs()]
        if new_name.startswith("decoder.mask_head.projection."):
            # The original has a 1x1 convolution of the mask features; we apply it to the queries, as a linear layer.
            value = value.flatten(1) if value.ndim > 1 else value
        renamed[new_name] = value
    return renamed | _joined_attention(state)


def coco_outputs() -> list[int]:
    """Return the new order of the 91 outputs: the 80 classes in Detectron2's order, then the 11 without a class."""
    ids = [category["id"] for category in COCO_CATEGORIES if category["isthing"]]
    return ids + sorted(set(range(NUM_COCO_OUTPUTS)) - set(ids))


def _rename(name: str) -> str:
    name = rename_first(name, _RENAMES)
    name = _CONV_NORM.sub(r"\1.norm.\2", name)
    return _CONV.sub(r"\1.weight", name)


def _joined_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join query, key and value, which are one linear layer in timm."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if match := _ATTENTION.fullmatch(name):
            block, kind, parameter = match.groups()
            parts.setdefault(f"backbone.body.blocks.{block}.attn.qkv.{parameter}", {})[kind] = value
    return {name: torch.cat([part[kind] for kind in ("query", "key", "value")]) for name, part in parts.items()}
