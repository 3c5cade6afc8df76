"""Read a checkpoint, rename its weights, write a Detectron2 checkpoint."""

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
# What a file of ours says of itself beside its weights.
DESCRIPTION = ("class_names", "config")


def convert(
    source: str, destination: str, rename: Callable[[Weights], Weights] = dict, half_precision: bool = False
) -> str:
    """Write the weights of one checkpoint as another that any Detectron2 tool reads.

    Args:
        source: file of any format we read.
        destination: file to write, .pth or .pkl; must not exist.
        rename: from the names in the source (ours, for a known model) to the names wanted.
        half_precision: write float16, for half the size; loading turns it back into the model's precision.

    Returns:
        One line on what was written.
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
    """Check a file to write, before anything is read.

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
        description: what the file says of itself, see DESCRIPTION.

    Returns:
        One line on what was written.
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
