"""Detectron2's checkpointer, for every format we read, and with saves that a kill cannot halve.

A checkpoint file holds "model", the weights to use.  While an average of the weights is trained ("ema"), "model" is
that average, so that every Detectron2 tool evaluates it, and "raw_model" is what the training goes on with.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor

from .formats import CheckpointError, read_checkpoint

# Parameters with a row for each class: another number of classes leaves them as initialised.
_CLASS_DEPENDENT = re.compile(r"(class_heads?|label_embedding)\b")
_BACKBONE_PREFIXES = ("", "backbone.", "backbone.body.")


class Checkpointer(DetectionCheckpointer):
    """Saves and loads a model and what is trained with it; use it like Detectron2's."""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `<save_dir>/<name>.pth`, then mark it as the last; a kill at any moment leaves the old state.

        Args:
            name: file name without ending.
            kwargs: more data to save, such as the iteration.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: checkpointable.state_dict() for key, checkpointable in self.checkpointables.items()}
        data = {"model": self.model.state_dict(), **states, **kwargs}
        if "ema" in data:
            data["raw_model"], data["model"] = data["model"], data["ema"].pop("model")
        file = Path(self.save_dir) / f"{name}.pth"
        self.logger.info(f"Saving checkpoint to {file}")
        replace_file(file, lambda temporary: torch.save(data, temporary))
        self.tag_last_checkpoint(file.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint, whole or not at all."""
        file = Path(self.save_dir) / "last_checkpoint"
        replace_file(file, lambda temporary: temporary.write_text(last_filename_basename))

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint of any known format; see `insta_rtdetr.checkpoint.formats`.

        Args:
            path: file or URL; empty loads nothing.
            checkpointables: what to load beside the model; None for all, which resumes a training.

        Returns:
            What the file holds beside that.
        Raises:
            CheckpointError: no such file, a failed download, no checkpoint, or weights of another architecture.  The
                model is unchanged.
        """
        if path and "://" in path:
            path = self._local_copy(path)
        if path and not Path(path).is_file():
            raise CheckpointError(f"there is no file {path}. Change MODEL.WEIGHTS.")
        self._resumes = checkpointables is None and "ema" in self.checkpointables
        return super().load(path, checkpointables)

    def _local_copy(self, address: str) -> str:
        try:
            return self.path_manager.get_local_path(address)
        except OSError as error:
            raise CheckpointError(
                f"cannot download {address}: {error}. Get the file elsewhere and name it in MODEL.WEIGHTS, or set "
                'MODEL.WEIGHTS "" to start from random weights.'
            ) from error

    def _load_file(self, filename: str) -> dict[str, Any]:
        self._file = filename
        checkpoint = read_checkpoint(filename)
        raw = checkpoint.pop("raw_model", None)
        if self._resumes and raw is not None:
            checkpoint["ema"]["model"], checkpoint["model"] = checkpoint["model"], raw
        return checkpoint

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if not checkpoint.get("matching_heuristics", False):
            weights = add_backbone_prefix(checkpoint["model"], self.model.state_dict())
            check_architecture(weights, self.model.state_dict(), self._file)
            checkpoint["model"] = weights
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        total = len(self.model.state_dict())
        missing, unexpected = list(incompatible.missing_keys), list(incompatible.unexpected_keys)
        reshaped = [name for name, *_ in incompatible.incorrect_shapes]
        self.logger.info(f"Loaded {total - len(missing)} of the model's {total} tensors.")
        for names, meaning in (
            (missing, "not in the checkpoint, left as initialised"),
            (reshaped, "of another number of classes in the checkpoint, left as initialised"),
            (unexpected, "in the checkpoint but not in the model, not used"),
        ):
            if names:
                self.logger.warning(f"{len(names)} tensors are {meaning}: {_shorten(names)}")


def add_backbone_prefix(weights: dict[str, Tensor], model_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of a bare backbone (as timm publishes them) the names that they have in the model."""
    best = max(_BACKBONE_PREFIXES, key=lambda prefix: sum(prefix + name in model_state for name in weights))
    return {best + name: value for name, value in weights.items()}


def check_architecture(weights: dict[str, Tensor], model_state: dict[str, Tensor], file: str) -> None:
    """Refuse weights that do not belong to the model.

    Raises:
        CheckpointError: no name is the model's, or a shape differs that does not depend on the number of classes.
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
        if weights[name].shape != model_state[name].shape and not _CLASS_DEPENDENT.search(name)
    ]
    if reshaped:
        name = reshaped[0]
        raise CheckpointError(
            f"{file} holds weights of another architecture: {len(reshaped)} tensors have another shape, first {name} "
            f"with {tuple(weights[name].shape)}, expected {tuple(model_state[name].shape)}. "
            "Change MODEL.WEIGHTS or --config-file."
        )


def replace_file(file: Path, write: Callable[[Path], Any]) -> None:
    """Write beside the file, force it to the disk, then rename: a reader sees the old file or the new one."""
    temporary = file.with_name(f".{file.name}.tmp")
    write(temporary)
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, file)


def _shorten(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
