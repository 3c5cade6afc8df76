"""Detectron2's checkpointer for every format that we read, whose files stay complete even if the process is killed.

A checkpoint file holds "model", the weights to use.  If a training averages the weights ("ema"), "model" is that
average, so that every Detectron2 tool evaluates it, and "raw_model" holds the weights that the training continues with.
The file describes itself: "class_names" are the names of its classes, in the order of the rows of its class heads, and
"config" is the training's config as yaml.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import GeneralizedRCNN
from torch import Tensor, nn

from insta_rtdetr.atomic import new_file, write_text
from insta_rtdetr.errors import CheckpointError, DamagedCheckpointError
from insta_rtdetr.zoo import PREFIX, fetch, find_published

from ..modeling.meta_arch import InstanceSegmenter
from .classes import (
    ClassLayers,
    ClassMatch,
    count_classes,
    guess_class_names,
    num_extra_rows,
    rcnn_class_layers,
    shorten,
)
from .dinov2 import fit_patches
from .formats import parse_config, read_checkpoint
from .resuming import LAST, resumable

_BACKBONE_PREFIXES = ("", "backbone.", "backbone.body.", "backbone.bottom_up.body.")


class Checkpointer(DetectionCheckpointer):
    """Checkpointer that saves and loads a model, and what is trained with it; it is used like Detectron2's.

    Attributes:
        unloaded: tensors of the model that have their values, or rows for classes, not from the last checkpoint loaded.
        file: the last checkpoint loaded; empty before.
        summary: lines for people on what was loaded from it.
        damaged: what is wrong with each later checkpoint, in place of which the run goes on from this one.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, class_names: Sequence[str] = (), config: str = "",
        save_to_disk: bool | None = None, **checkpointables: Any,
    ) -> None:  # fmt: skip
        """Set up the checkpointer.

        Args:
            model: the model to save and load.
            save_dir: folder that checkpoints are written to; empty if none are written.
            class_names: names of the model's classes, in order; empty if they are not known.  If they are known,
                weights for other classes are loaded by name.
            config: config of the model as yaml, which is written into checkpoints.
            save_to_disk: whether this process writes checkpoints; by default the main process does.
            checkpointables: objects that are saved and resumed beside the model, by their keys in the file.
        """
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self._description = {"class_names": list(class_names), "config": config}
        self._class_names = list(class_names)
        self.unloaded = set(self.model.state_dict())
        self.file = ""
        self.summary: list[str] = []
        self.damaged: list[str] = []
        self._class_layers = _class_layers_of(self.model)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `<save_dir>/<name>.pth` and mark it as the last checkpoint; a kill at any moment leaves the old state.

        Args:
            name: file name without ending.
            kwargs: further data to save, such as the iteration.

        Raises:
            CheckpointError: the file cannot be written, for example because the disk is full.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()}
        description = {key: value for key, value in self._description.items() if value}
        data = {"model": self.model.state_dict(), **states, **kwargs, **description}
        if "ema" in data:
            data["raw_model"], data["model"] = data["model"], data["ema"].pop("model")
        file = Path(self.save_dir) / f"{name}.pth"
        self.logger.info(f"Saving checkpoint to {file}")
        try:
            with new_file(file) as unfinished:
                torch.save(data, unfinished)
            self.tag_last_checkpoint(file.name)
        except (OSError, RuntimeError) as error:  # PyTorch raises RuntimeError if it cannot write.
            # Training hears of a killed process of its loader at any moment, also while a file is written.
            if of_loader := next((one for one in (error, error.__context__) if "DataLoader worker" in str(one)), None):
                raise of_loader from None
            reason = getattr(error, "strerror", None) or "is the disk full?"
            raise CheckpointError(
                f"{file} cannot be written ({reason}). The checkpoints before it are whole: make room, and give the "
                "same command with --resume."
            ) from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint, whole or not at all."""
        write_text(Path(self.save_dir) / LAST, last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Return whether save_dir has a checkpoint to go on from, whole or not."""
        return bool(resumable(self.save_dir))

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last whole checkpoint in save_dir if `resume` is set and there is one, else load `path`.

        Returns:
            as `load`.

        Raises:
            CheckpointError: see `load`; or there are checkpoints, but none is whole.
        """
        files = resumable(self.save_dir) if resume else []
        damaged: list[str] = []
        for file in files:
            try:
                rest = self.load(str(file))
            except DamagedCheckpointError as error:
                damaged.append(str(error).removesuffix(" Change MODEL.WEIGHTS."))
                continue
            if damaged:
                self.logger.warning(f"{' '.join(damaged)} The run goes on from {file}.")
            self.damaged = damaged
            return rest
        if damaged:
            raise CheckpointError(f"{self.save_dir} has no whole checkpoint: {damaged[0]} Set another OUTPUT_DIR.")
        return super().resume_or_load(path, resume=False)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint of any known format; see `insta_rtdetr.checkpoint.formats`.

        Args:
            path: file, URL or "published://NAME" (see `insta_rtdetr.zoo`); empty loads nothing.
            checkpointables: what to load beside the model; None for all, which resumes a training.

        Returns:
            the other data in the file.

        Raises:
            CheckpointError: the file does not exist, cannot be downloaded, is no checkpoint, has weights of another
                architecture, or is to be resumed but was trained on other classes.  The model is unchanged.
        """
        if path and "://" in path:
            path = self._local_copy(path)
        if path and not Path(path).is_file():
            raise DamagedCheckpointError(f"there is no file {path}. Change MODEL.WEIGHTS.")
        self._resumes = checkpointables is None and bool(self.checkpointables)
        self._partly_loaded: set[str] = set()
        return super().load(path, checkpointables)

    def _local_copy(self, address: str) -> str:
        if address.startswith(PREFIX):
            return str(fetch(find_published(address)))
        try:
            return self.path_manager.get_local_path(address)
        except OSError as error:
            raise CheckpointError(
                f"cannot download {address}: {error}. Get the file elsewhere and name it in MODEL.WEIGHTS, or set "
                'MODEL.WEIGHTS "" to start from random weights.'
            ) from error

    def _load_file(self, filename: str) -> dict[str, Any]:
        self.file, self.summary = filename, []
        checkpoint = read_checkpoint(filename)
        raw = checkpoint.pop("raw_model", None)
        found = checkpoint.get("class_names")
        if self._resumes and found and self._class_names and found != self._class_names:
            raise CheckpointError(
                f"{filename} was trained on the classes {shorten(found)}, the dataset has "
                f"{shorten(self._class_names)}. Set another OUTPUT_DIR, and this file as MODEL.WEIGHTS to begin with "
                "what it has learnt."
            )
        if self._resumes:
            self._check_stage(checkpoint.get("config", ""))
        if "ema" in self.checkpointables and self._resumes and raw is not None:
            checkpoint["ema"]["model"], checkpoint["model"] = checkpoint["model"], raw
        return checkpoint

    def _check_stage(self, found: str) -> None:
        """Refuse to resume a training of another stage (MODEL.STAGE), which trains other parameters."""
        stages = [_stage_of(config) for config in (found, self._description["config"])]
        if None not in stages and stages[0] != stages[1]:
            raise CheckpointError(
                f"{self.file} is of a training with MODEL.STAGE {stages[0]}, not {stages[1]}. Set another OUTPUT_DIR, "
                "and this file as MODEL.WEIGHTS to begin with what it has learnt."
            )

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        averaged = checkpoint.get("ema")
        averaged = averaged.get("model", {}) if isinstance(averaged, dict) else {}
        for weights in (checkpoint["model"], averaged):
            check_finite(weights, self.model.state_dict(), self.file)
        if not checkpoint.get("matching_heuristics", False):
            weights = add_backbone_prefix(checkpoint["model"], self.model.state_dict())
            weights = fit_patches(weights, self.model.state_dict())
            check_architecture(weights, self.model.state_dict(), self.file, self._class_layers)
            checkpoint["model"] = self._fit_classes(weights, checkpoint.get("class_names", []))
        return super()._load_model(checkpoint)

    def _fit_classes(self, weights: dict[str, Tensor], found: list[str]) -> dict[str, Tensor]:
        """Return the weights with rows for the model's classes, if both the model and the checkpoint name theirs."""
        num_found = count_classes(weights, self._class_layers)
        if num_found is None or not self._class_names:
            return weights
        if len(found) != num_found:
            found = guess_class_names(num_found)
            taken_for = "COCO's" if found else "the model's, in order" if num_found == len(self._class_names) else ""
            if taken_for:
                self.logger.info(f"The checkpoint does not name its {num_found} classes: taken for {taken_for}.")
        if not found and num_found != len(self._class_names):
            self.summary.append(f"classes: {num_found} without names; those of the dataset begin anew")
        if not found or found == self._class_names:
            return weights
        match = ClassMatch(found, self._class_names)
        if match.added:
            self._partly_loaded = {name for name in weights if num_extra_rows(name, self._class_layers) is not None}
        self.summary.append(match.summary())
        self.logger.log(logging.WARNING if match.added else logging.INFO, match.summary())
        return match.move(weights, self.model.state_dict(), self._class_layers)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        total = len(self.model.state_dict())
        missing, unexpected = list(incompatible.missing_keys), list(incompatible.unexpected_keys)
        reshaped = [name for name, *_ in incompatible.incorrect_shapes]
        self.unloaded = {*missing, *reshaped, *self._partly_loaded}
        rest = "; the others are left as initialised" if self.unloaded else ""
        self.summary.insert(0, f"{self.file}: {total - len({*missing, *reshaped})} of {total} tensors{rest}")
        self.logger.info(f"Loaded {total - len(missing)} of the model's {total} tensors.")
        for names, meaning in (
            (missing, "not in the checkpoint, left as initialised"),
            (reshaped, "of another number of classes in the checkpoint, left as initialised"),
            (unexpected, "in the checkpoint but not in the model, not used"),
        ):
            if names:
                self.logger.warning(f"{len(names)} tensors are {meaning}: {shorten(names)}")


def _class_layers_of(model: nn.Module) -> ClassLayers:
    if isinstance(model, InstanceSegmenter):
        return model.class_layers
    return rcnn_class_layers(model.state_dict()) if isinstance(model, GeneralizedRCNN) else {}


def _stage_of(config: str) -> str | None:
    """Return MODEL.STAGE of a config given as yaml; None without a config."""
    return parse_config(config)["MODEL"].get("STAGE", "joint") if config else None


def add_backbone_prefix(weights: dict[str, Tensor], model_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of a bare backbone (as timm publishes them) the names that they have in the model."""
    best = max(_BACKBONE_PREFIXES, key=lambda prefix: sum(prefix + name in model_state for name in weights))
    return {best + name: value for name, value in weights.items()}


def check_finite(weights: dict[str, Tensor], model_state: dict[str, Tensor], file: str) -> None:
    """Refuse weights of the model that are not numbers, as a training that diverged leaves them.

    Args:
        weights: the weights; those of other names are not used, and may be infinite, as RT-DETR's anchors are.
        model_state: state dict of the model.
        file: name of the weights' file, for the message.

    Raises:
        DamagedCheckpointError: names the first tensor with NaN or infinity.
    """
    for name, value in weights.items():
        if name in model_state and value.shape == model_state[name].shape and not value.isfinite().all():
            raise DamagedCheckpointError(
                f"{file} holds NaN or infinity in the tensor {name}. Change MODEL.WEIGHTS."
            )


def check_architecture(
    weights: dict[str, Tensor], model_state: dict[str, Tensor], file: str, class_layers: ClassLayers
) -> None:
    """Refuse weights that do not belong to the model.

    Args:
        weights: the weights.
        model_state: state dict of the model.
        file: name of the weights' file, for the message.
        class_layers: layers whose shapes depend on the number of classes, see `InstanceSegmenter`.

    Raises:
        CheckpointError: no name occurs in the model, or a shape differs that does not depend on the number of classes.
    """
    common = [name for name in weights if name in model_state]
    if not common:
        raise CheckpointError(
            f"{file} holds weights of another architecture: names like {next(iter(weights), 'none')}, "
            f"expected names like {next(iter(model_state))}. Change MODEL.WEIGHTS or --config-file."
        )
    reshaped = [
        name
        for name in common
        if weights[name].shape != model_state[name].shape and num_extra_rows(name, class_layers) is None
    ]
    if reshaped:
        name = reshaped[0]
        raise CheckpointError(
            f"{file} holds weights of another architecture: {len(reshaped)} tensors have another shape, first {name} "
            f"with {tuple(weights[name].shape)}, expected {tuple(model_state[name].shape)}. "
            "Change MODEL.WEIGHTS or --config-file."
        )
