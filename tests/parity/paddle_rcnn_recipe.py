"""The recipe's weights for PaddlePaddle's Mask R-CNNs, with smaller steps of boxes; the references' images and sizes.

With the recipe alone many boxes leave the image.  They are empty once they are clipped, and take places among the 100
best detections: in Detectron2 all of them, in PaddlePaddle only one of those that touch, as the overlap 0 / 0 of two of
them is none that its NMS keeps.
"""

import numpy as np

from .recipe import tensor_for

SALT = 0
# Suffix of the file, size of the network's input before it is padded, size of the result.
IMAGES = [("", (160, 160), (200, 200)), ("_wide", (130, 210), (169, 273))]
# MODEL.RPN.POST_NMS_TOPK_TEST, for speed.
NUM_PROPOSALS = 100
# What the weights of the heads that move boxes are multiplied by.
_BOX_STEP = 0.3


def rcnn_weight_for(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """float64 array for one entry of the state dict, a function of its name and shape only."""
    # PaddlePaddle's linear layers are (in, out), and the recipe's scale is that of (out, in).
    is_linear = len(shape) == 2
    values = tensor_for(name, tuple(shape)[::-1] if is_linear else tuple(shape), salt)
    is_box_step = ".bbox_delta" in name and is_linear
    return (_BOX_STEP if is_box_step else 1.0) * (values.T if is_linear else values)
