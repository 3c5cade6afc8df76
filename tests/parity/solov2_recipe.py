"""The recipe's weights for SOLOv2, and made-up outputs and objects for its losses.

With the recipe alone nearly all of the grids' cells would hold objects of many classes.
"""

import numpy as np

from .recipe import tensor_for

SALT = 0
GRID_SIDES = (40, 36, 24, 16, 12)
# What the class head's weights are multiplied by, and what is added to its biases, so that a few hundred cells are
# likelier than 0.1 to hold an object.
_CLASS_SCALE, _CLASS_BIAS = 3.0, -10.5
_CLASS_HEAD = "solov2_head.bbox_head.solo_cate."
# The original's state dict has these layers twice, under two names.
_ALIASES = {
    "solov2_head.solo_": "solov2_head.bbox_head.solo_",
    "mask_head.conv_pred.": "mask_head.mask_feat_head.conv_pred.0.",
}
# Of the made-up outputs: size of the input, its stride at the mask map, classes, and channels of the mask features.
INPUT_SIZE, MASK_STRIDE, NUM_CLASSES, MASK_DIM = (512, 416), 4, 5, 6
# (centre y, centre x, height, width), pixels, and class of the ellipses in two images.  The first has its centre on the
# border of cells, the second lies within it, the third is on three grids, and the fourth vanishes on the mask map; the
# last of the second image has no pixels.
OBJECTS = [
    [((256, 208, 61, 41), 0), ((258, 205, 45, 33), 3), ((260, 190, 500, 390), 1), ((101, 302, 3, 3), 2),
     ((90, 70, 120, 150), 4), ((92, 75, 110, 140), 4)],
    [((400, 300, 170, 200), 2), ((30, 20, 55, 35), 0), ((300, 111, 20, 20), 1)],
]  # fmt: skip
EMPTY = (1, 2)


def solov2_weight_for(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """float64 array for one entry of the state dict, a function of its name and shape only."""
    for alias, original_name in _ALIASES.items():
        name = name.replace(alias, original_name)
    values = tensor_for(name, tuple(shape), salt)
    if not name.startswith(_CLASS_HEAD):
        return values
    return values * _CLASS_SCALE if name.endswith("weight") else values + _CLASS_BIAS


def made_up_outputs() -> dict[str, np.ndarray]:
    """float64 class logits (2, K, S, S) and kernels (2, C, S, S) of each grid, and mask features (2, C, h, w)."""
    rng = np.random.default_rng(5)
    outputs = {}
    for i, side in enumerate(GRID_SIDES):
        outputs[f"class_logits{i}"] = rng.normal(-2, 1.5, (2, NUM_CLASSES, side, side))
        outputs[f"kernels{i}"] = rng.normal(0, 0.7, (2, MASK_DIM, side, side))
    size = [side // MASK_STRIDE for side in INPUT_SIZE]
    return outputs | {"mask_features": rng.normal(0, 1, (2, MASK_DIM, *size)).clip(0)}


def made_up_objects(image: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes (T,), boxes (T, 4), xyxy in pixels, and bool masks (T, H, W) of an image."""
    y, x = np.ogrid[: INPUT_SIZE[0], : INPUT_SIZE[1]]
    classes, boxes, masks = [], [], []
    for i, ((centre_y, centre_x, height, width), one_class) in enumerate(OBJECTS[image]):
        is_inside = ((y - centre_y) / height) ** 2 + ((x - centre_x) / width) ** 2 <= 0.25
        masks.append(is_inside & ((image, i) != EMPTY))
        half = np.array([width, height]) / 2
        boxes.append([*([centre_x, centre_y] - half), *([centre_x, centre_y] + half)])
        classes.append(one_class)
    return np.array(classes), np.array(boxes), np.stack(masks)
