"""Writing the network in each format, always from the program that `torch.export` makes."""

import logging
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from insta_rtdetr.extras import import_extra
from insta_rtdetr.predict.runtime.metadata import INPUT_NAME, KEY, MODEL_FILE, Metadata

from .network import TopObjects

if TYPE_CHECKING:
    import onnx

# PyTorch's exporter makes opset 18.  GridSample needs opset 16, and LayerNormalization opset 17.
OPSET = 18
# Operations that lose objects or places in half precision; TensorRT's too are to be kept in float32, see README.md.
FLOAT32_OPERATIONS = (
    "GridSample", "TopK", "LayerNormalization", "Softmax", "ReduceSum", "ReduceMean", "ReduceMax", "Log", "Exp", "Clip",
    "Max", "Min", "Div", "Sub", "Greater", "GreaterOrEqual", "Resize", "Range", "CumSum", "Sin", "Cos",
)  # fmt: skip


def write(network: TopObjects, metadata: Metadata, export_format: str, target: Path) -> None:
    """Write a file, or, for OpenVINO, into an existing folder.

    Raises:
        UserError: a package is missing.
    """
    with torch.no_grad(), quiet():
        program = trace(network, metadata)
        WRITERS[export_format](program, network, metadata, target)


def trace(network: TopObjects, metadata: Metadata) -> torch.export.ExportedProgram:
    """Trace the network to a graph."""
    images = example(network, 2 if metadata.dynamic_batch else 1)
    # Anchors and position encodings are cached by this call, so that they become constants of the graph.
    network(images)
    batch = {0: torch.export.Dim("batch", min=1, max=1024)} if metadata.dynamic_batch else None
    return torch.export.export(network, (images,), dynamic_shapes=(batch,))


def example(network: TopObjects, batch_size: int) -> Tensor:
    """Return an input of the network, black images."""
    return torch.zeros(batch_size, 3, *network.size, device=network.model.device)


def _write_torch(program: torch.export.ExportedProgram, network: TopObjects, metadata: Metadata, target: Path) -> None:
    torch.export.save(program, target, extra_files={KEY: metadata.to_json()})


def _write_onnx(program: torch.export.ExportedProgram, network: TopObjects, metadata: Metadata, target: Path) -> None:
    onnx = import_extra("onnx")
    model = _to_onnx(program, network)
    if metadata.precision == "fp16":
        model = onnx_in_half(model)
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, target)


def onnx_in_half(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Convert weights and products to float16; inputs, outputs and `FLOAT32_OPERATIONS` stay in float32."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    blocked = [*DEFAULT_OP_BLOCK_LIST, *FLOAT32_OPERATIONS]
    model = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
    _drop_repeated_casts(model)
    OnnxModel(model).topological_sort()
    return model


def _drop_repeated_casts(model: "onnx.ModelProto") -> None:
    """Remove casts whose output exists already: ONNX Runtime's converter adds one for each operation that reads it."""
    onnx = import_extra("onnx")
    made: set[str] = set()
    kept = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] in made:
            continue
        made.update(node.output)
        kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _to_onnx(program: torch.export.ExportedProgram, network: TopObjects) -> "onnx.ModelProto":
    import_extra("onnxruntime"), import_extra("onnxscript")
    return torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, input_names=[INPUT_NAME], output_names=network.output_names,
        verbose=False,
    ).model_proto  # fmt: skip


def _write_openvino(
    program: torch.export.ExportedProgram, network: TopObjects, metadata: Metadata, target: Path
) -> None:
    onnx_file = target / "model.onnx"
    import_extra("onnx").save(_to_onnx(program, network), onnx_file)
    onnx_to_openvino(onnx_file, metadata, target)
    onnx_file.unlink()


def onnx_to_openvino(onnx_file: Path, metadata: Metadata, folder: Path) -> None:
    """Convert a float32 ONNX file to OpenVINO's two files, whose weights are float16 unless the precision is fp32.

    Raises:
        UserError: OpenVINO is missing.
    """
    openvino = import_extra("openvino")
    model = openvino.convert_model(onnx_file)
    model.set_rt_info(metadata.to_json(), KEY)
    folder.mkdir(exist_ok=True)
    openvino.save_model(model, folder / MODEL_FILE, compress_to_fp16=metadata.precision != "fp32")


# Name of a format -> what writes it; docs/extending.md adds one.
WRITERS: dict[str, Callable[..., None]] = {
    "onnx": _write_onnx, "openvino": _write_openvino, "torch.export": _write_torch,
}  # fmt: skip
FORMATS = WRITERS.keys()


@contextmanager
def quiet():
    """Silence the logs and warnings of the exporters within the context."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
