"""Names of the parameters of PaddlePaddle's Mask R-CNN and Cascade Mask R-CNN in the original code and in Detectron2.

Source: https://github.com/PaddlePaddle/PaddleDetection/tree/666f597
"""

import re

from torch import Tensor

from .insta_rtdetr import BRANCHES, rename_first

_BOX, _MASK = r"bbox_head\.", r"mask_head\."
# (pattern of the original's name, Detectron2's name); the first pattern that matches is used.
_RENAMES = [
    (r"neck\.fpn_inner_res(\d)_sum(_lateral)?\.", r"backbone.fpn_lateral\1."),
    (r"neck\.fpn_res(\d)_sum\.", r"backbone.fpn_output\1."),
    (r"rpn_head\.rpn_feat\.rpn_conv\.", r"proposal_generator.rpn_head.conv."),
    (r"rpn_head\.rpn_rois_score\.", r"proposal_generator.rpn_head.objectness_logits."),
    (r"rpn_head\.rpn_rois_delta\.", r"proposal_generator.rpn_head.anchor_deltas."),
    (_BOX + r"head\.fc6\.", r"roi_heads.box_head.fc1."),
    (_BOX + r"head\.fc7\.", r"roi_heads.box_head.fc2."),
    (_BOX + r"head\.(\d)\.fc6\.", r"roi_heads.box_head.\1.fc1."),
    (_BOX + r"head\.(\d)\.fc7\.", r"roi_heads.box_head.\1.fc2."),
    (_BOX + r"bbox_score\.", r"roi_heads.box_predictor.cls_score."),
    (_BOX + r"bbox_delta\.", r"roi_heads.box_predictor.bbox_pred."),
    (_BOX + r"bbox_score_stage(\d)\.", r"roi_heads.box_predictor.\1.cls_score."),
    (_BOX + r"bbox_delta_stage(\d)\.", r"roi_heads.box_predictor.\1.bbox_pred."),
    (_MASK + r"head\.upsample\.mask_inter_feat_(\d)\.", r"roi_heads.mask_head.mask_fcn\1."),
    (_MASK + r"head\.upsample\.conv5_mask\.", r"roi_heads.mask_head.deconv."),
    (_MASK + r"mask_fcn_logits\.", r"roi_heads.mask_head.predictor."),
]
# Stage, block and the rest; the last stage of a model without a pyramid belongs to the box head.
_BLOCK = re.compile(r"(backbone|bbox_head\.head)\.res(\d)\.res\d(a|b\d+|[b-z])\.(.*)")
# Convolution or norm of one of the branches of a block; a shortcut may have one more level of names.
_PART = re.compile(r"(\w+?)\.(?:conv\.(?=conv|norm))?(conv|norm)\.(\w+)")
_STEM = re.compile(r"backbone\.conv1\.(conv1|res_conv1|conv1_\d)\.(conv|norm)\.(\w+)")
# The convolutions of ResNet-vd's stem, and their norms, as our backbone counts them.
_STEM_VD = {"conv1_1": ("conv1.0", "conv1.1"), "conv1_2": ("conv1.3", "conv1.4"), "conv1_3": ("conv1.6", "bn1")}
_DEEP_STEM = "backbone.conv1.conv1_1.conv.weight"
_STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return "rpn_head.rpn_feat.rpn_conv.weight" in state


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of Mask R-CNN or Cascade Mask R-CNN, and transpose those of linear layers.

    Args:
        state: the original's state dict, in which a linear layer's weight is (in, out).

    Returns:
        A state dict of Detectron2's `GeneralizedRCNN`, with a ResNet of Detectron2's or a ResNet-vd of ours.
    """
    is_vd = _DEEP_STEM in state
    backbone = "backbone.bottom_up" if any(name.startswith("neck.") for name in state) else "backbone"
    return {
        _rename(name, backbone, is_vd): value.T.contiguous() if value.dim() == 2 else value
        for name, value in state.items()
    }


def _rename(name: str, backbone: str, is_vd: bool) -> str:
    if stem := _STEM.fullmatch(name):
        return f"{backbone}.{_rename_stem(*stem.groups())}"
    if block := _BLOCK.fullmatch(name):
        owner, stage, letter, rest = block.groups()
        index = int(letter[1:]) if letter[1:] else ord(letter) - ord("a")
        prefix = backbone if owner == "backbone" else "roi_heads"
        stage_name = f"layer{int(stage) - 1}" if is_vd else f"res{stage}"
        return f"{prefix}.{stage_name}.{index}.{_rename_part(rest, is_vd)}"
    return rename_first(name, _RENAMES)


def _rename_stem(convolution: str, kind: str, parameter: str) -> str:
    parameter = _STATISTICS.get(parameter, parameter)
    if convolution in _STEM_VD:
        return f"{_STEM_VD[convolution][kind == 'norm']}.{parameter}"
    return f"stem.conv1.{'norm.' if kind == 'norm' else ''}{parameter}"


def _rename_part(rest: str, is_vd: bool) -> str:
    """Rename what follows a block's number, to timm's names for a ResNet-vd and to Detectron2's for another."""
    part, kind, parameter = _PART.fullmatch(rest).groups()
    parameter, is_norm = _STATISTICS.get(parameter, parameter), kind == "norm"
    if is_vd:
        layer = f"downsample.{1 + is_norm}" if part == "short" else f"{'bn' if is_norm else 'conv'}{BRANCHES[part]}"
        return f"{layer}.{parameter}"
    layer = "shortcut" if part == "short" else f"conv{BRANCHES[part]}"
    return f"{layer}.{'norm.' if is_norm else ''}{parameter}"
