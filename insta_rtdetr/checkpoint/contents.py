"""Description of a checkpoint file, and copies of it with other classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from insta_rtdetr.errors import CheckpointError

from ..modeling.meta_arch import InstanceSegmenter
from .classes import ClassLayers, ClassMatch, count_classes, guess_class_names, num_extra_rows, shorten
from .convert import DESCRIPTION, check_destination, write_weights
from .formats import name_format, open_checkpoint, parse_config, to_detectron2

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class CheckpointContents:
    """Content of a checkpoint file.

    Attributes:
        file: its path.
        kind: name of its format.
        keys: keys of the file as it is.
        content: its content as a Detectron2 checkpoint, with the weights under our names.
        models: the models of this package that the weights may belong to.
    """

    file: str
    kind: str
    keys: list[str]
    content: dict[str, Any]
    models: list[type[InstanceSegmenter]]

    @property
    def weights(self) -> Weights:
        """Return the weights to use, under our names."""
        return self.content["model"]

    @property
    def config(self) -> str:
        """Return the config of the training as yaml; empty if the file holds no config of this package."""
        found = self.content.get("config")
        return found if isinstance(found, str) else ""

    @property
    def class_layers(self) -> ClassLayers:
        """Return the layers with rows for classes; none if the model is not known."""
        return self.models[0].class_layers if self.models else {}

    @property
    def class_names(self) -> list[str]:
        """Return the class names that the file holds, else COCO's if there are 80 classes, else none."""
        return self.content.get("class_names") or guess_class_names(count_classes(self.weights, self.class_layers))

    def summary(self) -> str:
        """Return a description of several lines."""
        count = count_classes(self.weights, self.class_layers)
        names = self.content.get("class_names")
        origin = shorten(names, 20) if names else "not named" + (", taken for COCO's" if self.class_names else "")
        iteration = self.content.get("iteration")
        numbers = sum(value.numel() for value in self.weights.values())
        lines = {
            "file": f"{self.file}, {Path(self.file).stat().st_size / 1e6:.1f} MB",
            "format": self.kind,
            "keys": shorten(self.keys, 12),
            "model": " or ".join(model.__name__ for model in self.models) or "none of this package",
            "classes": f"{count} ({origin})" if count is not None else "no class heads",
            "iteration": "not in the file" if iteration is None else str(iteration),
            "config": f"{len(self.config.splitlines())} lines, see --config" if self.config else "not in the file",
            "parameters": f"{numbers / 1e6:.2f} M numbers in {len(self.weights)} tensors, "
            + ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in self.weights.values()})),
            "tensors": shorten(sorted({name.split(".")[0] for name in self.weights}), 20),
        }
        return "\n".join(f"{key + ':':<12}{value}" for key, value in lines.items())


def read_contents(file: str) -> CheckpointContents:
    """Read a checkpoint of any format.

    Raises:
        CheckpointError: it cannot be read.
    """
    raw = open_checkpoint(file)
    keys = [str(key) for key in raw] if not all(isinstance(value, Tensor) for value in raw.values()) else []
    kind, content = name_format(raw), to_detectron2(raw, file)
    return CheckpointContents(file, kind, keys or ["the tensors themselves"], content, _find_models(content))


def _find_models(content: dict[str, Any]) -> list[type[InstanceSegmenter]]:
    """Find the model by the config in the file, else by the layers that only its class heads have."""
    models = [model for _, model in META_ARCH_REGISTRY if issubclass(model, InstanceSegmenter)]
    if isinstance(content.get("config"), str):
        name = parse_config(content["config"])["MODEL"].get("META_ARCHITECTURE")
        return [model for model in models if model.__name__ == name]
    return [model for model in models if _has_heads(content["model"], model.class_layers)]


def _has_heads(weights: Weights, layers: ClassLayers) -> bool:
    """Return whether the weights have most of these layers; those for training alone may have been left out."""
    present = [any(num_extra_rows(name, {layer: 0}) is not None for name in weights) for layer in layers]
    return sum(present) * 2 > len(layers)


def keep_classes(source: str, destination: str, names: Sequence[str]) -> str:
    """Write a copy of a checkpoint whose class heads have the rows of these classes alone, in this order.

    Args:
        source: the checkpoint to read.
        destination: the file to write.
        names: names of the classes.

    Returns:
        one line on what was written.

    Raises:
        CheckpointError: the source does not name its classes or lacks one, or a file cannot be read or written.
    """
    check_destination(destination)
    info = _require_heads(source)
    if not info.class_names:
        raise CheckpointError(f"{source} does not name its classes. Load it with --dataset and train, or --drop-all.")
    if absent := [name for name in names if name not in info.class_names]:
        known = shorten(info.class_names, 200)
        raise CheckpointError(f"{source} has no class {shorten(absent)}. Its classes: {known}.")
    match, layers = ClassMatch(info.class_names, list(dict.fromkeys(names))), info.class_layers
    empty = {
        name: value[: len(match.new) + extra].clone()
        for name, value in info.weights.items()
        if (extra := num_extra_rows(name, layers)) is not None
    }
    description = {"class_names": list(match.new)}
    if info.config:
        description["config"] = _with_num_classes(info.config, len(match.new))
    written = write_weights(destination, match.move(info.weights, empty, layers), description)
    return f"{written}, classes: {shorten(match.new)}"


def drop_classes(source: str, destination: str) -> str:
    """Write a copy of a checkpoint without its class heads; see `keep_classes`."""
    check_destination(destination)
    info = _require_heads(source)
    weights = {name: v for name, v in info.weights.items() if num_extra_rows(name, info.class_layers) is None}
    description = {key: info.content[key] for key in DESCRIPTION if key in info.content and key != "class_names"}
    return f"{write_weights(destination, weights, description)}, without {len(info.weights) - len(weights)} of classes"


def _require_heads(source: str) -> CheckpointContents:
    info = read_contents(source)
    if count_classes(info.weights, info.class_layers) is None:
        raise CheckpointError(f"{source} has no class heads of a model of this package. Give another source.")
    return info


def _with_num_classes(config: str, count: int) -> str:
    content = parse_config(config)
    content["MODEL"]["NUM_CLASSES"] = count
    return yaml.safe_dump(content)
