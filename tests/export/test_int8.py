"""Quantised exports: what is in int8, which layers are kept, and what becomes of a file that fails its check."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from insta_rtdetr.errors import UserError
from insta_rtdetr.export import int8
from insta_rtdetr.export.options import Options
from insta_rtdetr.export.quantization import NETWORKS, QuantizableNetwork, import_nncf
from insta_rtdetr.export.sensitivity import most_sensitive, rank_layers, relative_error
from insta_rtdetr.predict.runtime import Metadata, open_session

needs_nncf = pytest.mark.skipif(not importlib.util.find_spec("nncf"), reason="nncf is not installed")
SIZE = (8, 8)
METADATA = Metadata(
    model="three", architecture="InstaRTDETR", class_names=("a",), category_ids=(1,), size=SIZE, channels="RGB",
    pixel_mean=(0.0,) * 3, pixel_std=(1.0,) * 3, postprocessor="Postprocessor", max_objects=1, score_threshold=0.0,
    mask_threshold=0.5, mask_resize="logit", nms_threshold=1.0, with_postprocess=False, precision="int8",
    dynamic_batch=False, version="0",
)  # fmt: skip
IMAGES = [np.random.default_rng(i).uniform(0, 255, (1, 3, *SIZE)).astype(np.float32) for i in range(4)]


def weight(name: str, out_channels: int, in_channels: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).normal(size=(out_channels, in_channels, 3, 3)) / in_channels
    return numpy_helper.from_array(values.astype(np.float32), name)


@pytest.fixture
def float_file(tmp_path) -> Path:
    """Backbone, encoder and decoder of a convolution each; the decoder reads the images too."""
    names = ["model.backbone.conv.weight", "model.encoder.conv.weight", "model.decoder.conv.weight"]
    weights = [weight(names[0], 8, 3), weight(names[1], 4, 8), weight(names[2], 3, 4)]
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["images", names[0]], ["backbone"], "conv_backbone", **pads),
        helper.make_node("Relu", ["backbone"], ["relu"], "relu"),
        helper.make_node("Conv", ["relu", names[1]], ["features"], "conv_encoder", **pads),
        helper.make_node("Conv", ["features", names[2]], ["decoder"], "conv_decoder", **pads),
        helper.make_node("Add", ["decoder", "images"], ["scores"], "add"),
    ]
    shape = [1, 3, *SIZE]
    tensor = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)  # noqa: E731
    graph = helper.make_graph(nodes, "three", [tensor("images")], [tensor("scores")], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


def run_float(float_file: Path) -> np.ndarray:
    compiled = openvino.Core().compile_model(float_file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(IMAGES[0])[0]


def bytes_of_weights(file: Path) -> dict[str, int]:
    """Bytes of the matrices of an exported file, by their type."""
    sizes: dict[str, int] = {}
    if file.suffix == ".onnx":
        for one in onnx.load(file).graph.initializer:
            if len(one.dims) == 4:
                kind = TensorProto.DataType.Name(one.data_type).lower()
                sizes[kind] = sizes.get(kind, 0) + len(numpy_helper.to_array(one).tobytes())
        return sizes
    for node in openvino.Core().read_model(file / "model.xml").get_ops():
        if node.get_type_name() == "Constant" and len(node.shape) == 4 and node.shape[-1] == 3:
            kind = {"i8": "int8", "f32": "float"}[node.get_element_type().get_type_name()]
            sizes[kind] = sizes.get(kind, 0) + node.data.nbytes
    return sizes


@needs_nncf
@pytest.mark.parametrize("export_format", NETWORKS)
def test_backbone_and_encoder_are_int8_and_the_rest_is_float32(float_file, export_format, tmp_path):
    network = NETWORKS[export_format](float_file)
    assert len(network.layers) == 2
    target = tmp_path / ("int8.onnx" if export_format == "onnx" else "int8")
    network.write(network.quantize(IMAGES), METADATA, target)
    assert bytes_of_weights(target) == {"int8": (3 * 8 + 8 * 4) * 9, "float": 4 * 3 * 9 * 4}
    session = open_session(target)
    assert session.metadata == METADATA and session.precision == "int8" and session.runtime == export_format
    expected, found = run_float(float_file), session(IMAGES[0])["scores"]
    error = np.abs(found - expected).max()
    assert 1e-4 < error < 0.05 * np.abs(expected).max()


@needs_nncf
@pytest.mark.parametrize("export_format", NETWORKS)
def test_a_layer_that_is_kept_is_float32(float_file, export_format, tmp_path):
    network = NETWORKS[export_format](float_file)
    target = tmp_path / ("int8.onnx" if export_format == "onnx" else "int8")
    network.write(network.quantize(IMAGES, kept=network.layers[:1]), METADATA, target)
    assert bytes_of_weights(target) == {"int8": 8 * 4 * 9, "float": (3 * 8 + 4 * 3) * 9 * 4}
    network.write(network.quantize(IMAGES, kept=network.operations), METADATA, target)
    np.testing.assert_allclose(open_session(target)(IMAGES[0])["scores"], run_float(float_file), atol=1e-4)


@needs_nncf
@pytest.mark.parametrize(("export_format", "harmed"), [("onnx", "backbone"), ("openvino", "encoder")])
def test_the_ranking_finds_the_layer_that_int8_harms(float_file, export_format, harmed):
    """One channel between the two is a thousand times the others, which then round to nothing.

    NNCF rounds what the encoder reads, ONNX Runtime also what the backbone gives.
    """
    model = onnx.load(float_file)
    by_name = {one.name: one for one in model.graph.initializer}
    for name, channel, factor in (("backbone", np.s_[0], 1e3), ("encoder", np.s_[:, 0], 1e-6)):
        one = by_name[f"model.{name}.conv.weight"]
        values = numpy_helper.to_array(one).copy()
        values[channel] *= factor
        one.CopyFrom(numpy_helper.from_array(values, one.name))
    onnx.save(model, float_file)
    ranked = rank_layers(NETWORKS[export_format](float_file), IMAGES[:2])
    assert len(ranked) == 2 and harmed in ranked[0][0]
    assert ranked[0][1] > ranked[1][1] > 0


def test_without_nncf_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UserError, match="int8"):
        import_nncf()


class StubNetwork(QuantizableNetwork):
    """Ten layers, of which the third loses most, then the first; a front is the list of kept layers."""

    losses = {2: 0.8, 0: 0.15, 5: 0.03, 6: 0.015}

    def __init__(self, file: Path) -> None:
        self.layers = self.operations = [str(i) for i in range(10)]
        self.front = self.layers

    def quantize(self, images, kept=()) -> list[str]:
        return list(kept)

    def features(self, front, images) -> list[list[np.ndarray]]:
        lost = sum(loss for layer, loss in self.losses.items() if str(layer) not in front)
        return [[np.array([1.0 + lost**0.5])] for _ in images]

    def write(self, front, metadata, target) -> None:
        target.write_text(" ".join(front))


def write_stub(tmp_path, monkeypatch, check) -> tuple[bool, str]:
    monkeypatch.setitem(int8.NETWORKS, "stub", StubNetwork)
    target = tmp_path / "target"
    passed = int8.write_int8(tmp_path / "float", "stub", METADATA, IMAGES, target, check)
    return passed, target.read_text()


def test_layers_are_ranked_by_what_each_loses_alone(tmp_path):
    ranked = rank_layers(StubNetwork(tmp_path), IMAGES)
    assert [int(name) for name, _ in ranked[:4]] == [2, 0, 5, 6]
    np.testing.assert_allclose([error for _, error in ranked[:5]], [0.8, 0.15, 0.03, 0.015, 0], atol=1e-12)


def test_the_fewest_layers_are_kept_that_leave_a_share_of_the_error():
    ranked = [("a", 0.8), ("b", 0.15), ("c", 0.04), ("d", 0.01)]
    assert most_sensitive(ranked, 1.0) == []
    assert most_sensitive(ranked, 0.2) == ["a"]
    assert most_sensitive(ranked, 0.1) == ["a", "b"]
    assert most_sensitive(ranked, 0.001) == ["a", "b", "c", "d"]


def test_relative_error_by_hand():
    expected = [[np.array([3.0, 4.0]), np.array([2.0])]]
    found = [[np.array([3.0, 5.0]), np.array([1.0])]]
    assert relative_error(expected, found) == pytest.approx((1 / 25 + 1 / 4) / 2)


def test_nothing_is_kept_if_all_in_int8_passes(tmp_path, monkeypatch):
    assert write_stub(tmp_path, monkeypatch, lambda file: True) == (True, "")


def test_layers_are_kept_until_the_check_is_passed(tmp_path, monkeypatch, capsys):
    seen = []
    check = lambda file: seen.append(file.read_text()) or "5" in file.read_text()  # noqa: E731
    assert write_stub(tmp_path, monkeypatch, check) == (True, "2 0 5")
    assert seen == ["", "2 0", "2 0 5"]
    assert "3 of 10 layers stay in float32: 2, 0, 5" in capsys.readouterr().out


def test_it_says_that_it_cannot(tmp_path, monkeypatch):
    seen = []
    assert not write_stub(tmp_path, monkeypatch, lambda file: seen.append(file.read_text()))[0]
    assert seen == ["", "2 0", "2 0 5", "2 0 5 6"]


def test_a_network_mostly_in_float32_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(StubNetwork, "losses", dict.fromkeys(range(10), 0.1))
    seen = []
    assert not write_stub(tmp_path, monkeypatch, lambda file: seen.append(file.read_text()))[0]
    assert seen == [""]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"export_format": "torch.export", "images": ["a.png"]}, "--precision int8 is for --format onnx and openvino"),
        ({"export_format": "onnx"}, "Give --dataset or --images"),
        ({"export_format": "onnx", "images": ["a.png"], "max_drop": -1.0}, "--max-drop is -1"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(UserError, match=said):
        Options("a", precision="int8", **options)

