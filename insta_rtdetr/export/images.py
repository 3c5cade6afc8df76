"""Images for calibrating an export and for comparing it with the model: (H, W, 3), uint8, RGB."""

import numpy as np
from detectron2.config import CfgNode

from insta_rtdetr.data import load_datasets, needs_masks
from insta_rtdetr.errors import UserError
from insta_rtdetr.predict.inputs import find_inputs
from insta_rtdetr.visualization import read_image

# Photographs of scikit-image.
EXAMPLE_IMAGES = ("coins", "astronaut", "chelsea", "coffee")
# More images change the measured ranges little.
NUM_CALIBRATION_IMAGES = 100


def read_images(names: list[str]) -> list[np.ndarray]:
    """Read images from files, or the photographs of scikit-image if there are no names.

    Raises:
        UserError, ImageError: an image cannot be read, or there are no names and scikit-image is not installed.
    """
    if names:
        return [loaded.image for one in find_inputs(names) for loaded in one.read()]
    try:
        from skimage import data
    except ImportError as error:
        raise UserError("There are no images to compare on.  Give --images, or: pip install scikit-image") from error
    images = [getattr(data, name)() for name in EXAMPLE_IMAGES]
    return [np.stack([image] * 3, axis=2) if image.ndim == 2 else image for image in images]


def training_images(cfg: CfgNode, count: int = NUM_CALIBRATION_IMAGES) -> list[np.ndarray]:
    """Read `count` images that are evenly spread over DATASETS.TRAIN.

    Raises:
        UserError: there is no such dataset, or it has no images.
    """
    if not cfg.DATASETS.TRAIN:
        raise UserError("--dataset has no training split to calibrate on.  Add one, or give --images too.")
    records = load_datasets(cfg.DATASETS.TRAIN, cfg.MODEL.NUM_CLASSES, with_masks=needs_masks(cfg))
    indices = np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int)
    return [read_image(records[index]["file_name"]) for index in indices]
