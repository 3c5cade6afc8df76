"""The weights, images and made-up outputs behind the references of PP-YOLOE_seg."""

import numpy as np

from .recipe import tensor_for

SALT = 0
# Suffix of the file, size of the network's input, size of the result.
IMAGES = [("", (256, 256), (400, 400)), ("_wide", (192, 320), (240, 400))]
# Of the made-up outputs: (height, width) of the input in pixels, strides from the finest, classes, channels of the
# masks, bins of a side's distribution, and objects of the three images.
INPUT_SIZE, STRIDES, NUM_CLASSES, MASK_DIM, NUM_BINS, NUM_OBJECTS = (128, 160), (8, 16, 32), 6, 32, 17, (3, 5, 0)
# Of the gradients, every so manieth position is stored.
GRADIENT_STEP = 3


def ppyoloe_weight_for(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """float64 array for one entry of the state dict; that of the distances, which is never trained, is as published."""
    if name.endswith("proj_conv.weight"):
        return np.arange(shape[1], dtype=np.float64).reshape(shape)
    return tensor_for(name, shape, salt)


def level_sizes() -> list[tuple[int, int]]:
    """(height, width) of each level for the made-up outputs, finest first."""
    return [(INPUT_SIZE[0] // stride, INPUT_SIZE[1] // stride) for stride in STRIDES]


def made_up_outputs() -> dict[str, np.ndarray]:
    """Class logits (B, Q, K), side logits (B, Q, 4 * R), mask embeddings (B, Q, C) and mask features (B, C, h, w).

    All are float64.  Positions come level by level, the finest first.
    """
    rng = np.random.default_rng(5)
    batch, num_positions = len(NUM_OBJECTS), sum(height * width for height, width in level_sizes())
    shapes = {
        "class_logits": (num_positions, NUM_CLASSES), "side_logits": (num_positions, 4 * NUM_BINS),
        "mask_embeddings": (num_positions, MASK_DIM), "mask_features": (MASK_DIM, *(s // 4 for s in INPUT_SIZE)),
    }  # fmt: skip
    scales = {"class_logits": (-2, 1.5), "side_logits": (0, 3), "mask_embeddings": (0, 1), "mask_features": (0, 1)}
    return {name: rng.normal(*scales[name], (batch, *shape)) for name, shape in shapes.items()}


def made_up_targets() -> list[dict[str, np.ndarray]]:
    """For each image, classes (T,), boxes (T, 4), xyxy in pixels, and masks (T, H, W), bool, of rectangular objects."""
    rng = np.random.default_rng(6)
    height, width = INPUT_SIZE
    targets = []
    for count in NUM_OBJECTS:
        low = rng.uniform(0, 0.5, (count, 2)) * (width, height)
        boxes = np.concatenate([low, low + rng.uniform(0.2, 0.5, (count, 2)) * (width, height)], axis=1)
        masks = np.zeros((count, height, width), dtype=bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
            mask[y0:y1, x0:x1] = True
        targets.append({"classes": rng.integers(0, NUM_CLASSES, count), "boxes": boxes, "masks": masks})
    return targets
