"""The recipe's weights for PaddlePaddle's Mask R-CNNs, and the images, settings and sizes of their references."""

import numpy as np

from .recipe import tensor_for

SALT = 0
# Suffix of the file, size of the network's input before it is padded, size of the result.
IMAGES = [("", (160, 160), (200, 200)), ("_wide", (130, 210), (169, 273))]
# MODEL.RPN.POST_NMS_TOPK_TEST, for speed.
NUM_PROPOSALS = 100
# What the weights of some layers are multiplied by.
_GAINS = {"bbox_score": 3.0}


def rcnn_weight_for(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """float64 array for one entry of the state dict, a function of its name and shape only."""
    # PaddlePaddle's linear layers are (in, out), and the recipe's scale is that of (out, in).
    is_linear = len(shape) == 2
    values = tensor_for(name, tuple(shape)[::-1] if is_linear else tuple(shape), salt)
    gain = next((gain for part, gain in _GAINS.items() if f".{part}" in name and name.endswith("weight")), 1.0)
    return gain * (values.T if is_linear else values)
