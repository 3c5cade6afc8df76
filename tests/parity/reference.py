"""The reference outputs as tests use them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import Tensor

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from insta_rtdetr.structures import Prediction
from tests.tiny import CONFIG_DIR

from .recipe import image_for, tensor_for

FOLDER = Path(__file__).parent


def reference_outputs(model: str) -> dict[str, np.ndarray]:
    """The original's answers, without the batch-norm statistics."""
    return {key: value for key, value in np.load(FOLDER / f"{model}.npz").items() if not key.startswith("stat:")}


def original_state_dict(
    model: str, keys: str = "", weight_for: Callable[[str, tuple[int, ...], int], np.ndarray] = tensor_for
) -> dict[str, Tensor]:
    """The original's state dict, float64, under its own names.

    Args:
        model: name of the file of answers.
        keys: name of the file of keys, if it is another one.
        weight_for: gives the values of an entry by its name, its shape and the salt.
    """
    file = np.load(FOLDER / f"{model}.npz")
    shapes = json.loads((FOLDER / f"{keys or model}.keys.json").read_text())
    statistics = {key.removeprefix("stat:"): file[key].astype(np.float64) for key in file if key.startswith("stat:")}
    salt = int(file["salt"])
    return {
        name: torch.from_numpy(np.asarray(statistics.get(name, weight_for(name, shape, salt))))
        for name, shape in shapes.items()
    }


def reference_image(model: str) -> Tensor:
    """(3, H, W), uint8 RGB."""
    file = np.load(FOLDER / f"{model}.npz")
    height, width = (int(side) for side in file["size"])
    return torch.from_numpy(image_for(height, width, int(file["salt"]))).permute(2, 0, 1)


def published_model(config: str, file: Path) -> InstanceSegmenter:
    """The model of a config in float64 and eval mode, loaded from a file of any format."""
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.merge_from_file(f"{CONFIG_DIR}/{config}.yaml")
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).double().eval()
    Checkpointer(model).load(str(file))
    return model


def predict_reference_image(model: InstanceSegmenter, name: str, image_size: Tensor) -> tuple[Prediction, Instances]:
    """The network's prediction for the image of a reference, and the final result for an image of this (H, W)."""
    height, width = image_size.tolist()
    batch = model.preprocessor([{"image": reference_image(name), "height": height, "width": width}])
    with torch.no_grad():
        prediction = model.run_network(batch.images).layers[-1]
        (result,) = model.postprocessor(prediction, batch.sizes)
    return prediction, result
