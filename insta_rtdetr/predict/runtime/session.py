"""Loading and running exported files of all formats."""

import os
from pathlib import Path

import numpy as np
import torch

from insta_rtdetr.errors import UserError, one_line
from insta_rtdetr.extras import import_extra

from .metadata import INPUT_NAME, KEY, MODEL_FILE, OUTPUT_NAMES, Metadata
from .split import split

# Format -> ending of its files.  An OpenVINO file may also be given by its folder.
ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "torch.export": ".pt2"}


def is_exported(path: object) -> bool:
    """Return whether a path is that of an exported file, by its ending, or of a folder with an OpenVINO file."""
    if not isinstance(path, (str, os.PathLike)):
        return False
    path = Path(path)
    return path.suffix in ENDINGS.values() or (path / MODEL_FILE).is_file()


class Session:
    """An exported file that is ready to run, with as many threads as PyTorch has.

    Attributes:
        runtime: format of the file, a key of `ENDINGS`.
        metadata: metadata in the file.
        precision: precision in which the runtime computes.
    """

    runtime: str
    metadata: Metadata
    precision: str

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run on images (B, 3, H, W), float32, 0 to 255; return the outputs of `TopObjects.forward` by name."""
        raise NotImplementedError


def open_session(path: str | os.PathLike, device: str = "cpu") -> Session:
    """Load an exported file.

    Args:
        path: the file, or the folder of an OpenVINO file.
        device: "cpu", or "cuda" for an ONNX file with ONNX Runtime's package for GPUs.

    Raises:
        UserError: there is no such file, it cannot be loaded, or the device is not available.
    """
    file = Path(path)
    file = file / MODEL_FILE if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"{path} not found.  Give a file or folder that tools/export.py made.")
    if device not in ("", "cpu") and (file.suffix != ".onnx" or device != "cuda"):
        raise UserError(f"{path} runs on cpu, got device {device!r}.")
    try:
        return SESSIONS[file.suffix](str(file), device)
    except UserError:
        raise
    except Exception as error:  # each runtime raises errors of its own
        raise UserError(f"{path} cannot be loaded: {one_line(error)}") from error


class OnnxSession(Session):
    """Session of ONNX Runtime."""

    runtime = "onnx"

    def __init__(self, file: str, device: str):
        onnxruntime = import_extra("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Otherwise threads that wait actively for the next call would take the processor from other work.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        if provider not in onnxruntime.get_available_providers():
            raise UserError("ONNX Runtime finds no GPU.  Install onnxruntime-gpu, or use device cpu.")
        self.session = onnxruntime.InferenceSession(file, options, providers=[provider])
        self.metadata = Metadata.from_json(self.session.get_modelmeta().custom_metadata_map.get(KEY), file)
        self.precision = self.metadata.precision
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.session.run(self.names, {INPUT_NAME: images})))


class OpenVinoSession(Session):
    """Session of OpenVINO.

    Backbone and encoder of a bf16 file are computed in bfloat16 if the processor supports it; see `split`.  In an int8
    file, the operations that are in int8 are part of the graph.
    """

    runtime = "openvino"

    def __init__(self, file: str, device: str):
        core = import_extra("openvino").Core()
        model = core.read_model(file)
        text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
        self.metadata = Metadata.from_json(text, file)
        self.names = [output.get_any_name() for output in model.outputs]
        abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        wanted = self.metadata.precision.upper()
        self.precision = wanted.lower() if wanted in ("INT8", "BF16") and wanted in abilities else "fp32"
        front, rest = split(model) if self.precision == "bf16" else (None, model)
        self.front = front and _compile(core, front, "bf16")
        self.rest = _compile(core, rest, "f32")

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        inputs = [images]
        if self.front:
            features = self.front(images)
            inputs = [*(features[i] for i in range(len(features))), images]
        results = self.rest(inputs)
        return {name: results[i] for i, name in enumerate(self.names)}


def _compile(core, model, precision: str):
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(model, "CPU", settings)


class TorchSession(Session):
    """Session of PyTorch for a program of torch.export."""

    runtime = "torch.export"

    def __init__(self, file: str, device: str):
        extra = {KEY: ""}
        program = torch.export.load(file, extra_files=extra)
        text = extra[KEY]
        self.metadata = Metadata.from_json(text.decode() if isinstance(text, bytes) else text, file)
        self.precision = self.metadata.precision
        self.module = program.module()

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self.module(torch.from_numpy(images))
        return {name: output.numpy() for name, output in zip(OUTPUT_NAMES, outputs)}


# Ending of a file -> what runs it.
SESSIONS: dict[str, type[Session]] = {".onnx": OnnxSession, ".xml": OpenVinoSession, ".pt2": TorchSession}
