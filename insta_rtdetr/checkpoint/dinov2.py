"""A vision transformer's weights for another patch size and another number of patches.

Source: DINOv2, https://arxiv.org/abs/2304.07193; the resampling is timm's.
"""

from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

_PATCHES, _CODES = "backbone.body.patch_embed.proj.weight", "backbone.body.pos_embed"


def fit_patches(weights: dict[str, Tensor], model_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resample the patch embedding and the position codes of a backbone that was published alone.

    Args:
        weights: of the backbone, under the model's names; other weights are left as they are.
        model_state: of a model with `WindowedDINOv2`, or of any other model, whose weights are left as they are.
    """
    is_alone = all(name.startswith("backbone.") for name in weights)
    if not is_alone or not {_PATCHES, _CODES} <= weights.keys() & model_state.keys():
        return weights
    patches, codes = model_state[_PATCHES], model_state[_CODES]
    side = round((codes.shape[1] - 1) ** 0.5)
    return weights | {
        _PATCHES: resample_patch_embed(weights[_PATCHES].float(), list(patches.shape[2:])),
        _CODES: resample_abs_pos_embed(weights[_CODES].float(), [side, side]),
    }
