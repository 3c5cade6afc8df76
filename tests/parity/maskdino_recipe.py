"""The recipe's weights for Mask DINO, changed where its queries would all become one; and whose gradients are compared.

With the recipe alone every mask covers the image, all queries start from that box, and nine layers later they are the
same.  With masks biased towards nothing, and a box head whose steps are smaller, queries start from boxes of their own
(some from that of an empty mask), and boxes, classes and masks differ in the end.
"""

import re

import numpy as np
import torch
from torch import Tensor

from .recipe import tensor_for

PREDICTOR = "sem_seg_head.predictor"
# Several names of one tensor, as the original's state dict has them, and the one that the values come from.
_ALIASES = [
    (rf"{PREDICTOR}\.(decoder\.)?bbox_embed\.\d+\.", f"{PREDICTOR}._bbox_embed."),
    (rf"{PREDICTOR}\.decoder\.norm\.", f"{PREDICTOR}.decoder_norm."),
]
_BOX_STEP = 0.1
_MASK_BIAS = -5.0


def maskdino_weight_for(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """float64 array for one entry of Mask DINO's state dict, a function of its name and shape only."""
    for pattern, first_name in _ALIASES:
        name = re.sub(pattern, first_name, name)
    if name == "sem_seg_head.pixel_decoder.mask_features.bias":
        # Against the bias that all mask embeddings share.
        return _MASK_BIAS * tensor_for(f"{PREDICTOR}.mask_embed.layers.2.bias", shape, salt)
    is_box_step = name.startswith(f"{PREDICTOR}._bbox_embed.layers.2.")
    return tensor_for(name, shape, salt) * (_BOX_STEP if is_box_step else 1.0)


def weighted_sum(values: list[Tensor]) -> Tensor:
    """The sum of all numbers, each times the sine of its place within its tensor."""
    places = [torch.arange(value.numel(), dtype=value.dtype).sin() for value in values]
    return sum((value.flatten() * weight).sum() for value, weight in zip(values, places, strict=True))
