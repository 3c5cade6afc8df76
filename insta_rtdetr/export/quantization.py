"""Quantising backbone and encoder of an exported network to int8, in ONNX and OpenVINO files.

NNCF (for OpenVINO) or ONNX Runtime (for ONNX) inserts the operations that round to int8, with ranges that are measured
on calibration images.  Query selection, decoder and heads stay in float32, because they would select wrong queries and
positions in int8.

Source: https://github.com/openvinotoolkit/nncf, post-training quantisation.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from insta_rtdetr.extras import import_extra
from insta_rtdetr.predict.runtime.metadata import INPUT_NAME, KEY, MODEL_FILE, Metadata
from insta_rtdetr.predict.runtime.split import FRONT_WEIGHTS, GraphNode, front_and_constants, split

from .formats import quiet

if TYPE_CHECKING:
    import onnx
    import openvino

# Types of operations with weights, in OpenVINO and in ONNX.
OPENVINO_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
ONNX_LAYERS = ("Conv", "MatMul", "Gemm")


class QuantizableNetwork:
    """A float32 network whose front, backbone and encoder, can be quantised.

    Attributes:
        front: the front in float32.
        layers: names of its operations with weights, each after those that it depends on.
        operations: names of all its operations.
    """

    front: Any
    layers: list[str]
    operations: list[str]

    def quantize(self, images: Sequence[np.ndarray], kept: Collection[str] = ()) -> Any:
        """Quantise the front.

        Args:
            images: images for calibration, (1, 3, H, W) each, float32, 0 to 255.
            kept: names of operations that stay in float32.

        Returns:
            the front in int8.

        Raises:
            UserError: the package that quantises is not installed.
        """
        raise NotImplementedError

    def features(self, front: Any, images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Run a front, in float32 or int8; return its outputs for each image."""
        raise NotImplementedError

    def write(self, front: Any, metadata: Metadata, target: Path) -> None:
        """Write a front and the rest of the network as one file or, for OpenVINO, as a folder."""
        raise NotImplementedError


class OnnxNetwork(QuantizableNetwork):
    """A network in an ONNX file."""

    def __init__(self, file: Path) -> None:
        """Read the file.

        Args:
            file: ONNX file in float32, from `formats.write`.
        """
        onnx = import_extra("onnx")
        self.whole = onnx.load(file)
        self.in_front, outputs = _onnx_front(self.whole)
        with tempfile.TemporaryDirectory() as folder:
            front_file = Path(folder) / "front.onnx"
            onnx.utils.extract_model(file, front_file, [INPUT_NAME], outputs, check_model=False)
            self.front = onnx.load(front_file)
        self.operations = [node.name for node in self.front.graph.node]
        self.layers = [node.name for node in self.front.graph.node if node.op_type in ONNX_LAYERS]

    def quantize(self, images: Sequence[np.ndarray], kept: Collection[str] = ()) -> "onnx.ModelProto":
        """Quantise with ONNX Runtime, which runs NNCF's convolutions in float32; see `QuantizableNetwork`."""
        tools = import_extra("onnxruntime.quantization")
        names = [name for name in self.layers if name not in kept]
        if not names:
            return self.front
        with tempfile.TemporaryDirectory() as folder, quiet():
            target = Path(folder) / "int8.onnx"
            tools.quantize_static(
                self._copy(), target, _Images(images), nodes_to_quantize=names, per_channel=True,
                activation_type=tools.QuantType.QUInt8, weight_type=tools.QuantType.QInt8,
            )  # fmt: skip
            return import_extra("onnx").load(target)

    def _copy(self) -> "onnx.ModelProto":
        return type(self.front).FromString(self.front.SerializeToString())

    def features(self, front: "onnx.ModelProto", images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """See `QuantizableNetwork`."""
        onnxruntime = import_extra("onnxruntime")
        session = onnxruntime.InferenceSession(front.SerializeToString(), providers=["CPUExecutionProvider"])
        return [session.run(None, {INPUT_NAME: image}) for image in images]

    def write(self, front: "onnx.ModelProto", metadata: Metadata, target: Path) -> None:
        """See `QuantizableNetwork`."""
        onnx = import_extra("onnx")
        whole = self.whole.graph
        rest = [node for node in whole.node if node.name not in self.in_front]
        read = {name for node in rest for name in node.input} - {one.name for one in front.graph.initializer}
        weights = [*front.graph.initializer, *(one for one in whole.initializer if one.name in read)]
        graph = onnx.helper.make_graph([*front.graph.node, *rest], whole.name, whole.input, whole.output, weights)
        model = onnx.helper.make_model(graph, opset_imports=front.opset_import, ir_version=front.ir_version)
        onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
        onnx.checker.check_model(model)
        onnx.save(model, target)


class _Images:
    """Data reader for ONNX Runtime, which returns the calibration images one by one, and then None."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {INPUT_NAME: image}


def _onnx_front(model: "onnx.ModelProto") -> tuple[set[str], list[str]]:
    """Return the names of the front's nodes, and of its values that the rest reads."""
    graph = model.graph
    maker = {one.name: one.name for one in (*graph.input, *graph.initializer)}
    maker |= {value: node.name for node in graph.node for value in node.output}
    nodes = [GraphNode(one.name, [], is_input=True) for one in graph.input]
    nodes += [
        GraphNode(one.name, [], is_front_weight=len(one.dims) > 1 and one.name.startswith(FRONT_WEIGHTS))
        for one in graph.initializer
    ]
    nodes += [GraphNode(node.name, [maker[value] for value in node.input if value]) for node in graph.node]
    front, constants = front_and_constants(nodes)
    read_outside = {value for node in graph.node if node.name not in front for value in node.input}
    read_outside |= {output.name for output in graph.output}
    computed = [node for node in graph.node if node.name in front - constants]
    return front, [value for node in computed for value in node.output if value in read_outside]


class OpenVinoNetwork(QuantizableNetwork):
    """A network in an OpenVINO model."""

    def __init__(self, file: Path) -> None:
        """Convert the file and split the model.

        Args:
            file: ONNX file in float32, from `formats.write`.
        """
        openvino = import_extra("openvino")
        self.core = openvino.Core()
        parts = split(openvino.convert_model(file))
        # NNCF does not take a model that was split off another one until it has been written and read again.
        self.front, self.rest = (self._written_and_read(part) for part in parts)
        computed = [op for op in self.front.get_ordered_ops() if op.get_type_name() not in ("Constant", "Parameter")]
        self.operations = [op.get_friendly_name() for op in computed if op.get_type_name() != "Result"]
        self.layers = [op.get_friendly_name() for op in computed if op.get_type_name() in OPENVINO_LAYERS]

    def _written_and_read(self, model: "openvino.Model") -> "openvino.Model":
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / MODEL_FILE
            import_extra("openvino").save_model(model, file, compress_to_fp16=False)
            # The model is read from memory, because one that is read from a file stays mapped to it.
            return self.core.read_model(file.read_bytes(), file.with_suffix(".bin").read_bytes())

    def quantize(self, images: Sequence[np.ndarray], kept: Collection[str] = ()) -> "openvino.Model":
        """See `QuantizableNetwork`."""
        nncf = import_nncf()
        scope = nncf.IgnoredScope(names=list(kept), validate=False) if kept else None
        # NNCF's progress bars are kept off stdout, which is for results.
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            return nncf.quantize(
                self.front.clone(),
                nncf.Dataset(images),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(images),
                model_type=nncf.ModelType.TRANSFORMER,
                ignored_scope=scope,
            )

    def features(self, front: "openvino.Model", images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """See `QuantizableNetwork`."""
        compiled = self.core.compile_model(front, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return [[np.array(values) for values in compiled(image).values()] for image in images]

    def write(self, front: "openvino.Model", metadata: Metadata, target: Path) -> None:
        """See `QuantizableNetwork`."""
        openvino = import_extra("openvino")
        front, rest = front.clone(), self.rest.clone()
        (images,) = front.get_parameters()
        sources = [result.input(0).get_source_output() for result in front.get_results()] + [images.output(0)]
        for parameter, source in zip(rest.get_parameters(), sources, strict=True):
            for reader in parameter.output(0).get_target_inputs():
                reader.replace_source_output(source)
        model = openvino.Model(rest.get_results(), [images], "whole")
        model.set_rt_info(metadata.to_json(), KEY)
        target.mkdir(exist_ok=True)
        openvino.save_model(model, target / MODEL_FILE, compress_to_fp16=False)


NETWORKS: dict[str, type[QuantizableNetwork]] = {"onnx": OnnxNetwork, "openvino": OpenVinoNetwork}


def import_nncf() -> ModuleType:
    """Import NNCF.

    Raises:
        UserError: NNCF is not installed.
    """
    # With this variable NNCF does not report its use to its makers.
    os.environ.setdefault("NNCF_CI", "1")
    with quiet():
        return import_extra("nncf", extra="int8")
