"""Exports of every architecture: the network's numbers, and the same objects through `predict`, command and page."""

import dataclasses
import importlib.util
import json
import shutil
import traceback
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from insta_rtdetr import create_model
from insta_rtdetr.errors import UserError
from insta_rtdetr.export.check import compare
from insta_rtdetr.export.formats import MODEL_FILE, onnx_in_half, onnx_to_openvino, write
from insta_rtdetr.export.network import TopObjects
from insta_rtdetr.export.options import Options
from insta_rtdetr.export.parity import TOLERANCES, Parity
from insta_rtdetr.export.quantization import NETWORKS
from insta_rtdetr.export.run import describe, load_model, run
from insta_rtdetr.predict.exported import ExportedModel
from insta_rtdetr.predict.model import build_module
from insta_rtdetr.predict.runtime.session import open_session
from insta_rtdetr.predict.runtime.split import FRONT_WEIGHTS, split
from insta_rtdetr.web.app import Demo, create_app
from insta_rtdetr.web.limits import Limits
from tests.parity.recipe import tensor_for
from tests.tiny import (
    tiny_config,
    tiny_fastinst_config,
    tiny_mask_rtdetr_config,
    tiny_maskdino_config,
    tiny_ppyoloe_seg_config,
    tiny_rfdetr_seg_config,
    tiny_solov2_config,
    tiny_sparseinst_config,
)

REPOSITORY = Path(__file__).resolve().parents[2]
FEW = ("MODEL.DECODER.NUM_LAYERS", 1, "TEST.DETECTIONS_PER_IMAGE", 20)
CONFIGS = {
    "insta_rtdetr": tiny_config(
        *FEW, "MODEL.DECODER.LOCAL_MAXIMA", True, "MODEL.DECODER.MAXIMA_ACROSS_LEVELS", True,
        "MODEL.DECODER.RELATIVE_BOXES", True, "MODEL.MASK_HEAD.BOX_PRIOR", True,
    ),
    "fastinst": tiny_fastinst_config(*FEW, "INPUT.FIXED_SIZE", (64, 64)),
    "mask_rtdetr": tiny_mask_rtdetr_config(*FEW),
    "maskdino": tiny_maskdino_config(*FEW, "MODEL.ENCODER.NUM_LAYERS", 1, "INPUT.FIXED_SIZE", (64, 64)),
    "ppyoloe_seg": tiny_ppyoloe_seg_config(*FEW),
    "rfdetr_seg": tiny_rfdetr_seg_config(*FEW),
    "solov2": tiny_solov2_config(*FEW, "INPUT.FIXED_SIZE", (64, 64)),
    "sparseinst": tiny_sparseinst_config(
        # With one convolution, scores are so near 1 that which of two is the better would be chance.
        *FEW, "MODEL.DECODER.NUM_LAYERS", 2, "INPUT.FIXED_SIZE", (64, 64)
    ),
}

# Architecture -> largest change of a score of a model with random weights.
UNVERIFIED_IN_INT8 = {"SparseInst": 0.26, "SOLOv2": 0.21}


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def no_stack_traces():
    """PyTorch keeps the stack of Python's calls with each node of a graph, for its error messages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils._traceback.CapturedTraceback.summary", lambda self: traceback.StackSummary())
        yield


@pytest.fixture(scope="module", params=CONFIGS)
def made(request, tmp_path_factory, no_stack_traces) -> dict:
    """A tiny model, and its ONNX and OpenVINO files, which take any number of images."""
    folder = tmp_path_factory.mktemp(request.param)
    cfg = CONFIGS[request.param].clone()
    config_file, weights = folder / "tiny.yaml", folder / "tiny.pth"
    config_file.write_text(cfg.dump())
    # Fresh heads give all queries nearly one score, and which of two is the better would be chance.
    shapes = {name: values.shape for name, values in build_module(cfg).state_dict().items()}
    torch.save({"model": {name: torch.tensor(tensor_for(name, shape)) for name, shape in shapes.items()}}, weights)
    options = Options(str(config_file), str(weights), dynamic_batch=True)
    model = load_model(options)
    network = TopObjects(model.module, tuple(model.cfg.INPUT.FIXED_SIZE), with_postprocess=False, half=False).eval()
    metadata = describe(model, options)
    onnx_file, openvino_folder = folder / "model.onnx", folder / "model_openvino"
    write(network, metadata, "onnx", onnx_file)
    openvino_folder.mkdir()
    onnx_to_openvino(onnx_file, metadata, openvino_folder)
    files = [onnx_file, openvino_folder]
    return {"model": model, "network": network, "metadata": metadata, "files": files, "options": options}


def inputs(made: dict, batch_size: int) -> np.ndarray:
    size = made["metadata"].size
    return np.random.default_rng(batch_size).uniform(0, 255, (batch_size, 3, *size)).astype(np.float32)


def test_network_gives_the_same_numbers_for_any_batch(made):
    for file in made["files"]:
        session = open_session(file)
        assert session.metadata == made["metadata"]
        for batch_size in (1, 3):
            images = inputs(made, batch_size)
            with torch.no_grad():
                expected = made["network"](torch.from_numpy(images))
            found = session(images)
            assert list(found) == made["network"].output_names
            for name, values in zip(found, expected):
                assert found[name].shape[:2] == (batch_size, 20)
                np.testing.assert_allclose(found[name], values.numpy(), atol=2e-3, rtol=1e-3, err_msg=name)


def is_matrix(node: openvino.Node) -> bool:
    return node.get_type_name() == "Constant" and len(node.shape) > 1


def test_front_and_rest_give_what_the_whole_gives(made):
    """Only the precision of the front's numbers tells a bf16 file from an fp32 one."""
    core = openvino.Core()
    images = inputs(made, 3)
    parts = split(core.read_model(made["files"][1] / MODEL_FILE))
    compiled = [core.compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for part in parts]
    features = compiled[0](images)
    found = compiled[1]([*(features[i] for i in range(len(features))), images])
    for i, (name, values) in enumerate(open_session(made["files"][1])(images).items()):
        np.testing.assert_allclose(found[i], values, atol=1e-4, err_msg=name)
    weights = [{node.get_friendly_name() for node in part.get_ops() if is_matrix(node)} for part in parts]
    assert any(name.startswith(FRONT_WEIGHTS) for name in weights[0])
    assert not any(name.startswith(FRONT_WEIGHTS) for name in weights[1])


@pytest.mark.skipif(not importlib.util.find_spec("nncf"), reason="nncf is not installed")
@pytest.mark.parametrize("export_format", NETWORKS)
def test_int8_of_every_family(made, export_format, tmp_path, monkeypatch, capsys):
    """Half of the images calibrate, the others are compared; the scores stay near, though the weights are random."""
    architecture = made["metadata"].architecture
    if change := UNVERIFIED_IN_INT8.get(architecture):
        pytest.skip(f"with random weights, scores of {architecture} change by up to {change}; int8 is not verified")
    for index in range(4):
        Image.fromarray(noise(40, 56, index)).save(tmp_path / f"{index}.png")
    monkeypatch.setattr("insta_rtdetr.export.run.export", lambda m, o, target: shutil.copy(made["files"][0], target))
    monkeypatch.setattr("insta_rtdetr.export.parity.Parity.passed", property(lambda parity: parity.num_images == 2))
    target = tmp_path / ("int8.onnx" if export_format == "onnx" else "int8")
    options = dataclasses.replace(
        made["options"], precision="int8", export_format=export_format, images=[str(tmp_path)], output=str(target)
    )
    assert run(options)
    printed = capsys.readouterr().out
    assert "calibrated on 2 images" in printed and f"{export_format}, int8, computed in int8" in printed
    session = open_session(target)
    assert session.metadata == dataclasses.replace(made["metadata"], precision="int8")
    images = inputs(made, 3)
    expected, found = open_session(made["files"][0])(images), session(images)
    assert {name: values.shape for name, values in found.items()} == {n: values.shape for n, values in expected.items()}
    assert 0 < np.abs(found["scores"] - expected["scores"]).max() < 0.2
    (result,) = create_model(target).predict(tmp_path / "0.png", 0.0)
    assert len(result) > 0


def test_half_precision_gives_nearly_the_same_scores(made, tmp_path):
    half = onnx_in_half(onnx.load(made["files"][0]))
    metadata = dataclasses.replace(made["metadata"], precision="fp16")
    onnx.helper.set_model_props(half, {"insta_rtdetr": metadata.to_json()})
    onnx.save(half, tmp_path / "half.onnx")
    num_bytes = {
        kind: sum(len(one.raw_data) for one in half.graph.initializer if one.data_type == kind)
        for kind in (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)
    }
    assert num_bytes[onnx.TensorProto.FLOAT16] > num_bytes[onnx.TensorProto.FLOAT]
    images = inputs(made, 1)
    found, expected = (open_session(file)(images)["scores"] for file in (tmp_path / "half.onnx", made["files"][0]))
    assert 0 < np.abs(found - expected).max() < TOLERANCES["fp16"].score


def test_predict_gives_the_same_objects(made, tmp_path):
    images = [noise(40, 56, seed) for seed in range(3)]
    Image.fromarray(images[0]).save(tmp_path / "image.png")
    for file in made["files"]:
        exported = create_model(file)
        assert isinstance(exported, ExportedModel) and exported.categories == made["model"].categories
        parity = compare(made["model"], exported, images)
        assert parity.passed and parity.num_agreed == parity.num_objects >= 30, parity
        threshold = 0.5 * float(next(exported.predict(images[0], 0.0)).scores.max())
        (from_file,) = exported.predict(tmp_path / "image.png", threshold)
        (expected,) = made["model"].predict(images[0], threshold)
        assert len(from_file) == len(expected) > 0
        # A pixel at the threshold that one of the two leaves out moves the mean of its mask, which scores may count.
        counts_masks = made["network"].scores_masks
        one_pixel = 0.5 / expected.masks.sum((1, 2)).clip(min=1) * counts_masks
        assert (np.abs(from_file.scores - expected.scores) <= 1e-4 + one_pixel).all()
        assert (from_file.masks != expected.masks).mean() < 1e-2


def test_command_and_page_give_what_python_gives(made, tmp_path):
    """All three run the exported file; Python's own model gives the same, see above."""
    file = made["files"][0]
    exported = create_model(file)
    Image.fromarray(noise(40, 56, 0)).save(tmp_path / "image.png")
    (expected,) = exported.predict(tmp_path / "image.png", 0.0)
    arguments = ["--model", str(file), "--input", str(tmp_path / "image.png"), "--output", str(tmp_path / "found")]
    assert command("predict")([*arguments, "--save", "json", "--threshold", "0"]) == 0
    from_command = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert from_command == [
        {**one, "image_id": from_command[0]["image_id"]} for one in expected.to_coco(image_id=1)
    ]
    app = create_app(Demo(exported, "tiny", examples={}, limits=Limits(10**6, 10**6, 4)))
    with TestClient(app, "http://localhost") as client:
        answer = client.post(
            "/api/predict", content=(tmp_path / "image.png").read_bytes(), params={"threshold": 0}
        ).json()
    np.testing.assert_allclose([one["score"] for one in answer["annotations"]], expected.scores, atol=1e-6)


def test_masks_of_the_input(made):
    """What post-processing within the network gives for an image of the input's size is what the model gives."""
    size = made["metadata"].size
    network = TopObjects(made["model"].module, size, with_postprocess=True, half=False).eval()
    image = noise(*size, seed=0)
    with torch.no_grad():
        outputs = network(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    (expected,) = made["model"].predict(image, 0.0)
    values = dict(zip(network.output_names, (values[0].numpy() for values in outputs)))
    kept = slice(0, len(expected))
    np.testing.assert_allclose(values["scores"][kept], expected.scores, atol=1e-5)
    np.testing.assert_allclose(values["boxes"][kept], expected.boxes, atol=1e-2)
    assert (values["masks"][kept] != expected.masks).mean() < 1e-3


def test_parity_tells_a_difference(made):
    (expected,) = made["model"].predict(noise(40, 56, 0), 0.0)
    for field, change in (("scores", 0.01), ("pred_boxes", 5.0), ("pred_classes", 1), ("pred_masks", None)):
        instances = expected.instances[range(len(expected))]
        values = instances.get(field)
        if field == "pred_boxes":
            values = type(values)(values.tensor + change)
        else:
            values = ~values if change is None else values + change
        instances.set(field, values)
        parity = Parity(TOLERANCES["fp32"])
        parity.add(expected, dataclasses.replace(expected, instances=instances))
        assert not parity.passed, field
    parity = Parity(TOLERANCES["fp32"])
    assert not parity.passed
    parity.add(expected, expected)
    assert parity.passed


def command(name: str):
    spec = importlib.util.spec_from_file_location(f"tool_{name}", REPOSITORY / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "tflite"], "--format is tflite"),
        (["--precision", "int4"], "--precision is int4"),
        (["--precision", "int8"], "Give --dataset or --images"),
        (["--dataset", "missing"], "missing"),
        (["--precision", "bf16"], "is for --format openvino"),
        (["--size", "0", "64"], "--size is 0 64"),
        (["--size", "100", "100"], "multiples of 32"),
        (["--weights", "missing.pth"], "missing.pth"),
        (["--images", "missing.png"], "missing.png"),
        (["--output", "model.pt2"], "ends in .onnx"),
        (["--output", "no_folder/model.onnx"], "no_folder"),
        (["--config-file", "fastinst_R50_ppm-fpn_x1_576", "--weights", "x.pth"], "--size H W"),
        (["--batch"], "--batch"),
    ],
)
def test_wrong_arguments_end_in_one_line(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = [] if "--config-file" in arguments else ["--config-file", "quickstart_MNV2_D3_256"]
    assert command("export")([*config, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and said in error
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_kept(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("insta_rtdetr.export.parity.Parity.passed", property(lambda parity: False))
    Image.fromarray(noise(64, 64, 0)).save(tmp_path / "image.png")
    (tmp_path / "tiny.yaml").write_text(CONFIGS["insta_rtdetr"].dump())
    torch.save({"model": build_module(CONFIGS["insta_rtdetr"]).state_dict()}, tmp_path / "tiny.pth")
    before = set(tmp_path.iterdir())
    arguments = ["--config-file", str(tmp_path / "tiny.yaml"), "--weights", str(tmp_path / "tiny.pth")]
    arguments += ["--format", "torch.export", "--output", str(tmp_path / "model.pt2")]
    assert command("export")([*arguments, "--images", str(tmp_path / "image.png")]) == 1
    output = capsys.readouterr()
    assert "FAILED" in output.out and "Nothing was kept" in output.err
    assert set(tmp_path.iterdir()) == before


def test_what_is_no_export_is_refused(made, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded"):
        create_model(tmp_path / "broken.onnx")
    with pytest.raises(UserError, match="not found"):
        create_model(tmp_path / "missing.onnx")
    with pytest.raises(UserError, match="within"):
        create_model(made["files"][0], weights="a.pth")


def test_benchmark_times_an_exported_file(made, tmp_path, capsys):
    image = tmp_path / "image.png"
    Image.fromarray(noise(40, 56, 0)).save(image)
    arguments = ["--backends", *map(str, made["files"]), "--input", str(image), "--runs", "1", "--warmup", "0"]
    assert command("benchmark")(["--config-file", str(made["files"][0]), *arguments, "--device", "cpu"]) == 0
    table = capsys.readouterr().out
    assert all(str(file) in table for file in made["files"])
