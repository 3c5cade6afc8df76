"""The reference outputs as tests use them."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .recipe import image_for, tensor_for

FOLDER = Path(__file__).parent


def reference_outputs(model: str) -> dict[str, np.ndarray]:
    """The original's answers, without the batch-norm statistics."""
    return {key: value for key, value in np.load(FOLDER / f"{model}.npz").items() if not key.startswith("stat:")}


def original_state_dict(model: str) -> dict[str, Tensor]:
    """The original's state dict, float64, under its own names."""
    file = np.load(FOLDER / f"{model}.npz")
    shapes = json.loads((FOLDER / f"{model}.keys.json").read_text())
    statistics = {key.removeprefix("stat:"): file[key].astype(np.float64) for key in file if key.startswith("stat:")}
    salt = int(file["salt"])
    return {
        name: torch.from_numpy(np.asarray(statistics.get(name, tensor_for(name, shape, salt))))
        for name, shape in shapes.items()
    }


def reference_image(model: str) -> Tensor:
    """(3, H, W), uint8 RGB."""
    file = np.load(FOLDER / f"{model}.npz")
    height, width = (int(side) for side in file["size"])
    return torch.from_numpy(image_for(height, width, int(file["salt"]))).permute(2, 0, 1)
