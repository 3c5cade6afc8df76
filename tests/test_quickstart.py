"""The quick start runs from end to end, twice, and says in one line what is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from insta_rtdetr.data.benchmarks import register_builtin_datasets
from tests.tiny import tiny_config, tiny_model

pytest.importorskip("skimage")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))
import quickstart
from coins import COINS, coin_discs, count_coins

PHOTOGRAPH_HW = (303, 384)


@pytest.fixture
def toy_as_it_was():
    """The quick start registers toy_train and toy_val elsewhere."""
    yield
    for name in ("toy_train", "toy_val"):
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)
    register_builtin_datasets()


@pytest.fixture
def arguments(tmp_path, toy_as_it_was) -> list[str]:
    """A tiny model with random weights, three images, two iterations."""
    (tmp_path / "tiny.yaml").write_text(tiny_config("MODEL.NUM_CLASSES", 4, "SOLVER.IMS_PER_BATCH", 2).dump())
    torch.save({"model": tiny_model("MODEL.NUM_CLASSES", 4).state_dict()}, tmp_path / "tiny.pth")
    options = {
        "weights": tmp_path / "tiny.pth", "config-file": tmp_path / "tiny.yaml", "iterations": 2,
        "train-images": 3, "val-images": 2, "data": tmp_path / "toy", "output": tmp_path / "out",
    }  # fmt: skip
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return [*words, "--opts", "DATALOADER.NUM_WORKERS", "0"]


def test_two_runs_give_images_and_a_model_each(arguments, tmp_path, capsys):
    for _ in range(2):
        assert quickstart.main(arguments) == 0
        said = capsys.readouterr()
        assert said.err == ""
        for part in ("toy_val", "mask ", "Mask AP", f"of {len(COINS)}", "coins.png", "toy_2.png", "training"):
            assert part in said.out, said.out
    runs = sorted((tmp_path / "out").iterdir())
    assert len(runs) == 2
    for folder in runs:
        assert {"coins.png", "log.txt", "model_final.pth"} <= {file.name for file in folder.iterdir()}
        height, width = PHOTOGRAPH_HW
        assert Image.open(folder / "coins.png").size == (3 * width, 3 * height)
        assert "Evaluation results for segm" in (folder / "log.txt").read_text()


def fails(capsys, exit_code: int, *parts: str) -> None:
    """Assert that a run ended with exit code 1 and one line that has these parts."""
    error = capsys.readouterr().err
    assert exit_code == 1 and error.startswith("error: ") and error.count("\n") == 1, error
    for part in parts:
        assert part in error, error


@pytest.mark.parametrize(
    "more, parts",
    [
        (["--weights", "absent.pth"], ["absent.pth", "--weights", "train_net.py"]),
        (["--iterations", "0"], ["--iterations", "0"]),
        (["--config-file", "absent.yaml"], ["absent.yaml"]),
        (["--iteration-count", "3"], ["--iteration-count", "--help"]),
    ],
)
def test_wrong_options_are_named(arguments, tmp_path, capsys, more, parts):
    end = arguments.index("--opts")
    fails(capsys, quickstart.main([*arguments[:end], *more, *arguments[end:]]), *parts)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_left_alone(arguments, tmp_path, capsys):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "thesis.txt").write_text("mine")
    fails(capsys, quickstart.main(arguments), "toy", "not a toy dataset")
    assert (tmp_path / "toy" / "thesis.txt").read_text() == "mine"


def test_each_coin_counts_once():
    discs = coin_discs(PHOTOGRAPH_HW)
    assert count_coins(discs) == len(COINS) == 24
    assert count_coins(discs[[0, 0, 1]]) == 2


def test_masks_that_are_no_coin_do_not_count():
    discs = coin_discs(PHOTOGRAPH_HW)
    everything = np.ones((1, *PHOTOGRAPH_HW), dtype=bool)
    two_in_one = discs[:1] | discs[1:2]
    background = ~discs.any(axis=0, keepdims=True)
    half = discs[2:3] & (np.arange(PHOTOGRAPH_HW[1]) > COINS[2][1])
    assert count_coins(np.concatenate([everything, background, half])) == 0
    # The larger one of a pair that one mask covers may count, both never do.
    assert count_coins(two_in_one) <= 1
    assert count_coins(discs[:0]) == 0
