"""tools/benchmark.py on a tiny model: what is in the report, and what is refused."""

import importlib.util
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from PIL import Image
from torch import nn

from insta_rtdetr.benchmark import report as report_module
from insta_rtdetr.benchmark.comparison import compare_models
from insta_rtdetr.benchmark.options import Options
from insta_rtdetr.benchmark.run import benchmark
from tests.tiny import CASCADE_MASK_RCNN, MASK_RCNN, SMALL_RCNN, tiny_config, tiny_model

REPOSITORY = Path(__file__).resolve().parents[2]
INPUT_SIZE = (40, 56)


@META_ARCH_REGISTRY.register()
class OneSquare(nn.Module):
    """Stands for a model of Detectron2: one object in every image, or no masks."""

    def __init__(self, cfg):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.has_masks = cfg.MODEL.MASK_ON

    @property
    def device(self) -> torch.device:
        return self.conv.weight.device

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        return [{"instances": self._instances(inputs)} for inputs in batched_inputs]

    def _instances(self, inputs: dict) -> Instances:
        self.conv(inputs["image"].float()[None])
        size = (inputs["height"], inputs["width"])
        instances = Instances(size)
        if self.has_masks:
            instances.pred_masks = torch.ones(1, *size, dtype=torch.bool)
        return instances


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """The tiny model's config and an image."""
    folder = tmp_path_factory.mktemp("benchmark")
    config, image = folder / "tiny.yaml", folder / "image.png"
    config.write_text(tiny_config().dump())
    pixels = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    return {"config_file": str(config), "input": str(image)}


@pytest.fixture(scope="module")
def tool():
    """The module tools/benchmark.py."""
    spec = importlib.util.spec_from_file_location("benchmark_tool", REPOSITORY / "tools" / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quick(files: dict[str, str], **options: object) -> dict:
    return benchmark(Options(**files, device="cpu", **{"runs": 2, "warmup": 1, **options}))


def test_the_json_file_tells_everything_of_a_batch_of_two(tool, files, tmp_path, capsys):
    output = tmp_path / "report.json"
    words = ["--config-file", files["config_file"], "--input", files["input"], "--device", "cpu", "--batch-size", "2"]
    assert tool.main([*words, "--runs", "3", "--warmup", "1", "--size", "64", "96", "--output", str(output)]) == 0
    report = json.loads(output.read_text())

    assert list(report["stages_ms"]) == ["preprocess", "network", "postprocess", "rle"]
    for times in (*report["stages_ms"].values(), report["end_to_end_ms"], report["rle_pycocotools_ms"]):
        assert 0 < times["min"] <= times["median"] <= times["max"]
    assert report["images_per_second"] == pytest.approx(2000 / report["end_to_end_ms"]["median"])
    assert "encode_masks" in report["rle_encoder"]
    assert report["batch_size"] == 2 and report["runs"] == 3 and report["warmup"] == 1
    assert report["input_size"] == report["image_size"] == list(INPUT_SIZE)
    assert report["network_input"] == [64, 96]
    # 20 queries of 5 classes.
    assert report["objects"] == 100
    assert report["fused"] and not report["compiled"]
    assert report["precision"] == "fp32" and report["device"] == "cpu" and report["model"] == "InstaRTDETR"
    assert report["weights"].startswith("random") and report["input"] == files["input"]
    assert report["config_file"] == files["config_file"] and report["opts"] == []
    assert report["gflops"]["network"] > report["gflops"]["postprocess"] > 0
    assert "multiply-add" in report["gflops_convention"]
    # More than Python with PyTorch alone, less than a machine has.
    assert 100 < report["peak_memory_mib"] < 100_000 and "resident" in report["peak_memory_kind"]
    assert report["machine"]["cpu"] and report["machine"]["gpu"] is None
    assert report["machine"]["torch"] == torch.__version__ and report["machine"]["threads"] >= 1
    assert datetime.fromisoformat(report["date"]).tzinfo is not None

    table = capsys.readouterr().out
    assert all(word in table for word in ("end to end", "preprocess", "GFLOPs", "images/s", "Random weights"))


def test_several_models_are_put_side_by_side(tool, files, tmp_path, capsys):
    output = tmp_path / "reports.json"
    words = ["--config-file", files["config_file"], files["config_file"], "--input", files["input"], "--runs", "1"]
    assert tool.main([*words, "--warmup", "0", "--device", "cpu", "--output", str(output)]) == 0
    reports = json.loads(output.read_text())
    assert [report["model"] for report in reports] == ["InstaRTDETR"] * 2
    *_, rule, first, second = capsys.readouterr().out.splitlines()
    assert set(rule) == {"|", "-"}
    assert cells(first)[:3] == ["tiny", "64 x 64", f"{reports[0]['parameters_m']:.1f}"]
    assert second.startswith("| tiny")


def test_backends_of_several_models_are_put_side_by_side(tool, files, tmp_path, capsys):
    weights = tmp_path / "tiny.pth"
    torch.save({"model": tiny_model().state_dict()}, weights)
    words = ["--config-file", files["config_file"], files["config_file"], "--input", files["input"]]
    words += ["--weights", str(weights), "--backends", "eager", "eager", "--runs", "1", "--warmup", "0"]
    assert tool.main([*words, "--opts", "INPUT.FIXED_SIZE", "()"]) == 0
    *_, header, _, first, second = capsys.readouterr().out.splitlines()
    assert cells(header) == ["network, ms", "eager", "eager", "best ratio"]
    for line in (first, second):
        name, time, _, ratio = cells(line)
        assert name == "tiny" and float(time) > 0 and 0 < float(ratio) <= 1


@pytest.mark.skipif(not importlib.util.find_spec("nncf"), reason="nncf is not installed")
def test_precisions_are_backends(tool, files, tmp_path, monkeypatch):
    monkeypatch.setattr("insta_rtdetr.predict.precision.multiplies_bfloat16", lambda: True)
    names = ["eager", "eager-bf16", "onnxruntime-int8", "openvino-int8"]
    words = ["--config-file", files["config_file"], "--input", files["input"], "--backends", *names, "--device", "cpu"]
    words += ["--runs", "2", "--warmup", "0", "--output", str(tmp_path / "report.json")]
    words += ["--opts", "MODEL.DECODER.NUM_LAYERS", "1"]
    assert tool.main(words) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    rows = report["backends"]
    assert [row["backend"] for row in rows] == names
    assert [row["precision"] for row in rows] == ["fp32", "bf16", "int8", "int8"]
    assert rows[0]["network_ratio"] == 1 and report["machine"]["instruction_sets"]
    times = [row[kind] for row in rows for kind in ("network_ms", "end_to_end_ms")]
    assert all(one["median"] > 0 and one["spread"] >= 0 for one in times)
    assert any("2 runs" in warning for warning in report["warnings"])


def test_a_backend_that_finds_other_objects_is_not_the_best():
    names, times, parities = ("eager", "onnxruntime", "openvino"), (10.0, 8.0, 2.0), ("-", "passed", "FAILED")
    rows = [
        {"backend": n, "network_ms": {"median": t}, "network_ratio": t / times[0], "parity": p}
        for n, t, p in zip(names, times, parities)
    ]
    line = compare_models([{"config_file": "a/model.yaml", "backends": rows}]).splitlines()[-1]
    assert cells(line) == ["model", "10", "8", "2 (differs)", "0.80"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_parameters_are_those_of_the_model_as_built(files):
    wanted = sum(parameter.numel() for parameter in tiny_model().parameters()) / 1e6
    report = quick(files)
    assert report["parameters_m"] == wanted
    assert 0 < report["parameters_timed_m"] < wanted


def test_gflops_are_of_one_image_and_grow_with_its_area(files):
    small, large = quick(files, batch_size=2), quick(files, size=[128, 128])
    assert large["network_input"] == [128, 128]
    assert 2 < large["gflops"]["network"] / small["gflops"]["network"] < 4


def test_autocast_and_an_unfused_network(files):
    report = quick(files, precision="bf16", opts=["MODEL.FUSE_ON_EVAL", "False", "TEST.DETECTIONS_PER_IMAGE", "7"])
    assert report["precision"] == "bf16" and report["objects"] == 7
    assert not report["fused"]


def test_autocast_of_a_fused_network(files):
    assert quick(files, precision="bf16")["fused"]


def test_weights_are_loaded_and_threads_are_given_back(files, tmp_path):
    torch.save({"model": tiny_model(seed=3).state_dict()}, tmp_path / "model.pth")
    before = torch.get_num_threads()
    report = quick(files, weights=str(tmp_path / "model.pth"), threads=1)
    assert report["weights"] == str(tmp_path / "model.pth") and report["machine"]["threads"] == 1
    assert torch.get_num_threads() == before
    assert "Random weights" not in report_module.to_table(report)


def test_a_compiled_network_is_fused_and_says_so(files, monkeypatch):
    # The real compiler takes minutes.
    monkeypatch.setattr(torch, "compile", lambda function: function)
    report = quick(files, compile=True)
    assert report["compiled"] and report["fused"]
    assert report["parameters_timed_m"] < report["parameters_m"]


def test_any_other_model_has_two_stages(files):
    overrides = ["MODEL.META_ARCHITECTURE", "OneSquare", "INPUT.FIXED_SIZE", "()", "MODEL.MASK_ON", "True"]
    report = quick(files, opts=overrides, size=[20, 28], batch_size=2)
    assert list(report["stages_ms"]) == ["model", "rle"]
    assert report["network_input"] == report["image_size"] == [20, 28]
    assert report["input_size"] == list(INPUT_SIZE) and report["objects"] == 1
    assert report["gflops"] == {"model": pytest.approx(2 * 3 * 20 * 28 / 1e9)}


@pytest.mark.parametrize("name", [MASK_RCNN, CASCADE_MASK_RCNN])
def test_models_of_detectron2s_zoo_go_by_their_names(files, name):
    report = quick({**files, "config_file": name}, opts=SMALL_RCNN, runs=1, warmup=0)
    assert report["model"] == "GeneralizedRCNN" and list(report["stages_ms"]) == ["model", "rle"]
    assert report["objects"] > 0 and report["gflops"]["model"] > 0


def test_the_synthetic_image_has_the_size_of_most_coco_images(files):
    overrides = ["MODEL.META_ARCHITECTURE", "OneSquare", "MODEL.MASK_ON", "True"]
    assert quick(files | {"input": ""}, opts=overrides)["input_size"] == [480, 640]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config-file", "none.yaml"], "none.yaml not found"),
        (["--config-file", "quickstart_MNV2_D3_256", "model.onnx"], "has configs and exported files"),
        (["--runs", "0"], "--runs is 0, wanted at least 1"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--batch-size", "x"], "invalid int value: 'x'"),
        (["--size", "0", "64"], "--size is 0 64"),
        (["--precision", "int8"], "fp32"),
        (["--device", "tpu"], "--device is tpu, wanted cpu or cuda"),
        (["--device", "cuda:99"], "--device is cuda:99, but"),
        (["--input", "none.jpg"], "There is no file none.jpg.  Give an existing one to --input"),
        (["--input", __file__], "is no image"),
        (["--weights", "none.pth"], "There is no file none.pth.  Give an existing one to --weights"),
        (["--output", "none/report.json"], "folder of --output none/report.json does not exist"),
        (["--output", "/"], "--output / is a folder"),
        (["--opts", "TEST.SCORE_THRESHOLD"], "KEY VALUE pairs, found 1 words"),
        (["--opts", "MODEL.NAME", "x"], "there is no config key MODEL.NAME"),
        (["--opts", "MODEL.DEVICE", "cpu"], "Use --device"),
        (["--opts", "MODEL.META_ARCHITECTURE", "Nothing"], "MODEL.META_ARCHITECTURE is 'Nothing', which is not"),
        (["--opts", "MODEL.META_ARCHITECTURE", "OneSquare"], "OneSquare gives no instance masks"),
        (["--compile", "--opts", "MODEL.META_ARCHITECTURE", "OneSquare"], "--compile needs a model of insta_rtdetr"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_1(tool, files, capsys, arguments, words):
    words_before = ["--config-file", files["config_file"], "--device", "cpu"]
    assert tool.main([*words_before, *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and words in captured.err
