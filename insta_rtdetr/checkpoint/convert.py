"""Conversion of a checkpoint of any format to a Detectron2 checkpoint."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insta_rtdetr.atomic import new_file
from insta_rtdetr.errors import CheckpointError

from .formats import read_checkpoint

Weights = dict[str, Tensor]
# Keys with which our files describe their weights.
DESCRIPTION = ("class_names", "config")


def convert(
    source: str, destination: str, rename: Callable[[Weights], Weights] = dict, half_precision: bool = False
) -> str:
    """Write the weights and the description of a checkpoint as a checkpoint that every Detectron2 tool reads.

    Args:
        source: file of any format that we read.
        destination: file to write, .pth or .pkl; it must not exist.
        rename: function from the names in the source (ours, for a known model) to the names to write.
        half_precision: whether float16 is written, for half the size; loading converts it to the model's precision.

    Returns:
        one line on what was written.

    Raises:
        CheckpointError: the source cannot be read or used, or the destination exists or has another ending.
    """
    check_destination(destination)
    checkpoint = read_checkpoint(source)
    weights = rename(checkpoint["model"])
    if half_precision:
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    return write_weights(destination, weights, {key: checkpoint[key] for key in DESCRIPTION if key in checkpoint})


def check_destination(destination: str) -> None:
    """Check the name of a file to write, before anything is read.

    Raises:
        CheckpointError: it exists, or has another ending than .pth and .pkl.
    """
    file = Path(destination)
    if file.suffix not in (".pth", ".pkl"):
        raise CheckpointError(f"the destination must end in .pth or .pkl, got {destination}.")
    if file.exists():
        raise CheckpointError(f"{destination} exists; choose another destination or remove it first.")


def write_weights(destination: str, weights: Weights, description: dict[str, Any]) -> str:
    """Write a Detectron2 checkpoint of these weights, whole or not at all.

    Args:
        destination: file to write, .pth or .pkl.
        weights: the weights.
        description: further content of the file, see DESCRIPTION.

    Returns:
        one line on what was written.
    """
    file = Path(destination)
    content = {"model": weights, "__author__": "insta_rtdetr", **description}
    with new_file(file) as unfinished:
        if file.suffix == ".pth":
            torch.save(content, unfinished)
        else:
            content["model"] = {name: value.numpy() for name, value in weights.items()}
            unfinished.write_bytes(pickle.dumps(content))
    return f"wrote {len(weights)} tensors to {destination}"
