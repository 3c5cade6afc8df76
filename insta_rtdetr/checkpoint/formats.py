"""Reading checkpoint files of all formats, with the weights under our names."""

import argparse
import os
import pickle
import re
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

try:
    import resource
except ImportError:  # Windows has no such limits.
    resource = None

from insta_rtdetr.errors import CheckpointError, DamagedCheckpointError, UserError
from insta_rtdetr.plain_yaml import read_plain_yaml

from . import fastinst, insta_rtdetr, maskdino, paddle, paddle_rcnn, paddle_solov2, ppyoloe, rfdetr, sparseinst

# Memory that reading a file may take: so many times its size, and so many bytes more.
_MEMORY_FACTOR, _MEMORY_SPARE = 4, 2**30
# Bytes of a tensor that repeats its numbers by a stride of 0.
_LARGEST_EXPANDED = 2**26

# Endings of pickle files: those of Detectron2's model zoo, and PaddlePaddle's.
_PICKLES = (".pkl", ".pdparams")
# Key of a table with PaddlePaddle's internal names of the tensors, which stands beside the tensors.
_PADDLE_NAME_TABLE = "StructuredToParameterName@@"

# Name of an original code -> the module that renames its parameters; the first one that knows the names is used.
ORIGINALS = {
    "Insta-RT-DETR or RT-DETR": insta_rtdetr,
    "FastInst": fastinst,
    "Mask DINO": maskdino,
    "PaddlePaddle's Mask R-CNN": paddle_rcnn,
    "PaddlePaddle's PP-YOLOE": ppyoloe,
    "PaddlePaddle's SOLOv2": paddle_solov2,
    "PaddlePaddle's Mask-RT-DETR or PP-HGNetV2": paddle,
    "RF-DETR": rfdetr,
    "SparseInst": sparseinst,
}


@contextmanager
def _bounded_memory(path: str) -> Iterator[None]:
    """Let the process take only a few times a file's size of memory while it is read, on Linux.

    A few bytes of a hostile file can ask for all memory there is.

    Raises:
        CheckpointError: more was asked for.
    """
    size = os.path.getsize(path)
    if resource is None or not Path("/proc/self/statm").is_file():
        yield
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + _MEMORY_FACTOR * size + _MEMORY_SPARE
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(wanted, soft), hard))
    try:
        yield
    except MemoryError as error:
        spent = f"{path} asks for far more memory than its {size:,} bytes explain"
        raise CheckpointError(f"{spent}: not loaded.") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read_checkpoint(path: str) -> dict:
    """Read a checkpoint without running code from it.

    Returns:
        A Detectron2 checkpoint: "model" with the weights under our names, and the other data of the file.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, or holds objects other than numbers and tensors.
    """
    return to_detectron2(open_checkpoint(path), path)


def open_checkpoint(path: str) -> dict:
    """Return the content of a file as it is; see `read_checkpoint` for the errors."""
    if not Path(path).is_file():
        raise DamagedCheckpointError(f"there is no file {path}. Change MODEL.WEIGHTS.")
    with _bounded_memory(path):
        content = _read_pickle(path) if path.endswith(_PICKLES) else _read_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a checkpoint with a state dict.")
    return content


def to_detectron2(content: dict, path: str) -> dict:
    """Convert the content of a file to a Detectron2 checkpoint; see `read_checkpoint`.

    Args:
        content: the content.
        path: path of the file, for the message.
    """
    content = {key: value for key, value in content.items() if key != _PADDLE_NAME_TABLE}
    found = _find_weights(content)
    if found is None:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise CheckpointError(f'{path} holds {keys}; expected "model", "ema" or a state dict of tensors.')
    weights = {name.removeprefix("module."): _as_tensor(value) for name, value in found.items()}
    for name, value in weights.items():
        # One number can stand for a tensor of any shape.
        if value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), _LARGEST_EXPANDED):
            raise CheckpointError(f"{path} holds {name} of shape {tuple(value.shape)} without as many numbers.")
    if original := _find_original(weights):
        # The state of the original's optimizer and its counters cannot be used here.
        return {"model": ORIGINALS[original].from_original(weights)}
    return {"model": weights} if found is content else {**content, "model": weights}


def parse_config(text: str) -> dict:
    """Return the config that a checkpoint holds as yaml.

    Raises:
        CheckpointError: it is no config.
    """
    try:
        config = read_plain_yaml(text, "The config in the checkpoint")
    except UserError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(config, dict) or not isinstance(config.get("MODEL"), dict):
        raise CheckpointError("The config in the checkpoint has no section MODEL.")
    return config


def name_format(content: dict) -> str:
    """Return the name of the format that the content of a file has."""
    weights = {name.removeprefix("module."): value for name, value in (_find_weights(content) or {}).items()}
    if original := _find_original(weights):
        return f"{original}'s original code"
    if "trainer" in content:
        return "training of Detectron2 or insta_rtdetr"
    return "Detectron2 checkpoint" if "model" in content else "state dict alone"


def _find_original(weights: dict) -> str | None:
    return next((name for name, original in ORIGINALS.items() if original.is_original(weights)), None)


def _find_weights(content: dict) -> dict[str, Tensor] | None:
    """Return Insta-RT-DETR's averaged weights, else "model", else the content itself; None if it has no weights."""
    ema = content.get("ema")
    candidates = [ema.get("module") if isinstance(ema, dict) else None, content.get("model"), content]
    for candidate in candidates:
        if isinstance(candidate, dict) and candidate and all(_is_array(v) for v in candidate.values()):
            return candidate
    return None


def _read_torch(path: str) -> object:
    _check_archive(path)
    try:
        # RF-DETR's files hold the arguments of its training in classes that have nothing but attributes, which is safe.
        # We do not use them.
        with torch.serialization.safe_globals([argparse.Namespace, types.SimpleNamespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    # A damaged or hostile file may make PyTorch raise any exception.
    except Exception as error:
        raise DamagedCheckpointError(f"{path} {_explain(error, path)}. Change MODEL.WEIGHTS.") from error


def _check_archive(path: str) -> None:
    """Refuse a zip archive that holds more than its own size: PyTorch writes none, and a bomb is one."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > os.path.getsize(path):
        raise CheckpointError(f"{path} unpacks to {unpacked:,} bytes from {os.path.getsize(path):,}: not loaded.")


def _explain(error: Exception, path: str) -> str:
    # Torch's message is a page of advice; only the name of the refused object is taken from it.
    if refused := re.search(r"GLOBAL (\S+)", str(error)):
        return f"holds {refused[1]}, which is neither tensor nor number: it could run code and is not loaded"
    with open(path, "rb") as file:
        is_begun = file.read(2) == b"PK"  # Files of torch.save are zip archives.
    return f"is {'cut off' if is_begun else 'no PyTorch checkpoint'}, expected a whole file of torch.save"


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that allows numpy arrays and nothing else."""

    _ALLOWED = {
        ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"), ("collections", "OrderedDict"), ("_codecs", "encode"),
        ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
    }  # fmt: skip

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return super().find_class(module, name)


def _read_pickle(path: str) -> object:
    try:
        with open(path, "rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except MemoryError:
        raise
    # A damaged or hostile pickle may make the unpickler raise any exception; the documentation lists none.
    except Exception as error:
        raise CheckpointError(f"{path} is no pickle of numpy arrays alone: {_first_line(error)}") from error


def _is_array(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    return isinstance(value, np.ndarray) and value.dtype.kind in "biufc"


def _as_tensor(value: Tensor | np.ndarray) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
