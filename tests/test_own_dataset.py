"""One flag for a dataset of one's own: train, evaluate, fine-tune, draw and time with it, no code in between."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import train_net
from tests.data import trees
from tests.tiny import SMALL

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = ["--config-file", "insta_rtdetr_R18vd_D3_640"]
sys.path.insert(0, str(REPOSITORY / "demo"))
import demo  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A YOLO dataset, and the checkpoint of two iterations on it."""
    folder = tmp_path_factory.mktemp("own")
    data = trees.write_yolo(folder / "cups")
    output = ["OUTPUT_DIR", str(folder / "out"), "MODEL.WEIGHTS", ""]
    assert train_net.main([*CONFIG, "--dataset", str(data), *SMALL, *output]) == 0
    return data, folder / "out" / "model_final.pth"


def test_the_checkpoint_has_the_classes_of_the_dataset(trained):
    content = torch.load(trained[1], weights_only=True)
    assert content["class_names"] == ["cup", "pen"]
    assert content["model"]["decoder.class_heads.0.weight"].shape[0] == 2
    assert "cups_train" in content["config"]


def test_it_is_evaluated_with_the_same_flag(trained, tmp_path, capsys):
    data, weights = trained
    more = ["MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", str(tmp_path)]
    assert train_net.main([*CONFIG, "--eval-only", "--dataset", str(data), *SMALL, *more]) == 0
    said = capsys.readouterr().out
    assert "cups_val: 2 images, 4 objects, 2 classes (cup, pen)" in said and "Average Precision" not in said
    assert (tmp_path / "inference" / "coco_instances_results.json").is_file()


def test_another_dataset_keeps_the_classes_that_it_shares(trained, tmp_path):
    data = trees.write_yolo(tmp_path / "more")
    (data / "data.yaml").write_text("{train: images/train, val: images/val, names: [pen, key]}")
    more = ["MODEL.WEIGHTS", str(trained[1]), "OUTPUT_DIR", str(tmp_path / "out"), "SOLVER.MAX_ITER", "1"]
    assert train_net.main([*CONFIG, "--dataset", str(data), *SMALL, *more]) == 0
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "classes: 1 kept by name (pen); 1 new, left as initialised (key); 1 of the checkpoint not used" in log


def test_a_run_does_not_go_on_with_other_classes(trained, tmp_path, capsys):
    data = trees.write_yolo(tmp_path / "other")
    (data / "data.yaml").write_text("{train: images/train, val: images/val, names: [pen, cup]}")
    more = ["OUTPUT_DIR", str(trained[1].parent), "SOLVER.MAX_ITER", "3"]
    assert train_net.main([*CONFIG, "--resume", "--dataset", str(data), *SMALL, *more]) == 1
    assert "was trained on the classes cup, pen, the dataset has pen, cup" in capsys.readouterr().err


def test_a_path_that_is_no_dataset_ends_in_one_line(tmp_path, capsys):
    assert train_net.main([*CONFIG, "--dataset", str(tmp_path)]) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1 and "has no known layout" in line


def test_the_demo_draws_its_classes(trained, tmp_path):
    data, weights = trained
    options = ["--input", str(data / "images" / "val" / "0.jpg"), "--output", str(tmp_path / "drawn.png")]
    opts = ["--confidence-threshold", "0", "--opts", *SMALL, "MODEL.WEIGHTS", str(weights)]
    assert demo.main([*CONFIG, "--dataset", str(data), *options, *opts]) == 0
    assert (tmp_path / "drawn.png").is_file()


def test_the_benchmark_times_its_model(trained, capsys):
    data, weights = trained
    spec = importlib.util.spec_from_file_location("benchmark_tool", REPOSITORY / "tools" / "benchmark.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    small = [word for word in SMALL if word not in ("MODEL.DEVICE", "cpu")]
    options = ["--weights", str(weights), "--device", "cpu", "--runs", "1", "--warmup", "0", "--opts", *small]
    assert tool.main([*CONFIG, "--dataset", str(data), *options]) == 0
    assert "dataset cups (YOLO layout)" in capsys.readouterr().out
