"""Names of the parameters of PaddlePaddle's SOLOv2 in the original code and in ours.

Source: https://github.com/PaddlePaddle/PaddleDetection/tree/666f597
"""

from torch import Tensor

from . import paddle_rcnn
from .insta_rtdetr import rename_first

_HEAD, _LEVEL = r"solov2_head\.(?:bbox_head\.)?", r"mask_head\.conv_pre_feat\d\.mask_feat_head\.convs_all_levels\."
# (pattern of the original's name, our name); the first pattern that matches is used.  The original's state dict has
# some layers twice, under two names.
_RENAMES = [
    (_HEAD + r"kernel_convs\.(\d)\.conv\.", r"grid_head.embedding_convs.\1."),
    (_HEAD + r"kernel_convs\.(\d)\.norm\.", r"grid_head.embedding_convs.\1.norm."),
    (_HEAD + r"cate_convs\.(\d)\.conv\.", r"grid_head.class_convs.\1."),
    (_HEAD + r"cate_convs\.(\d)\.norm\.", r"grid_head.class_convs.\1.norm."),
    (_HEAD + r"solo_kernel\.", r"grid_head.mask_embedding."),
    (_HEAD + r"solo_cate\.", r"grid_head.class_head."),
    (_LEVEL + r"(\d)\.conv(\d)\.conv\.", r"encoder.levels.\1.convs.\2."),
    (_LEVEL + r"(\d)\.conv(\d)\.norm\.", r"encoder.levels.\1.convs.\2.norm."),
    (r"mask_head\.(?:mask_feat_head\.)?conv_pred\.(?:0\.)?conv\.", r"encoder.fusion."),
    (r"mask_head\.(?:mask_feat_head\.)?conv_pred\.(?:0\.)?norm\.", r"encoder.fusion.norm."),
]


def is_original(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the original's parameter names."""
    return any(name.startswith("solov2_head.") for name in state)


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of SOLOv2, whose backbone and feature pyramid are those of Mask R-CNN.

    Args:
        state: the original's state dict.

    Returns:
        A state dict of our `SOLOv2`.
    """
    return {rename_first(name, _RENAMES): value for name, value in paddle_rcnn.from_original(state).items()}
