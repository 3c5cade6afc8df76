"""Tests that the last checkpoints and the best one are kept."""

import pytest
import torch

from insta_rtdetr.engine import Trainer
from insta_rtdetr.engine.checkpoints import remove_old_checkpoints
from tests.engine.test_trainer import train
from tests.engine.tiny_training import register_dataset, tiny_cfg, write_dataset


@pytest.fixture
def run(tmp_path, monkeypatch, empty_curves):
    """Train with a checkpoint after each iteration and the second evaluation as the best; return the file names."""
    write_dataset(tmp_path)
    dataset = register_dataset("tiny_checkpoints", tmp_path)
    results = {"segm": {"AP": 2.0, "AP50": 4.0}, "bbox": {"AP": 1.0}}
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: results))

    def run(resume: bool = False, **more) -> list[str]:
        more = {"SOLVER__CHECKPOINT_PERIOD": 1, "TEST__EVAL_PERIOD": 2} | more
        train(tiny_cfg(dataset, tmp_path / "out", **more), resume)
        return sorted(file.name for file in (tmp_path / "out").glob("*.pth"))

    return run


def test_the_last_three_and_the_best_stay(run):
    assert run() == ["model_0000003.pth", "model_0000004.pth", "model_best.pth", "model_final.pth"]


def test_zero_keeps_all_and_the_last_is_not_written_twice(run):
    names = [f"model_{iteration:07d}.pth" for iteration in range(5)]
    assert run(SOLVER__KEEP_CHECKPOINTS=0) == [*names, "model_best.pth", "model_final.pth"]


def test_one_keeps_the_final_one(run):
    assert run(SOLVER__KEEP_CHECKPOINTS=1) == ["model_best.pth", "model_final.pth"]


def test_files_of_before_a_resume_count(run):
    run()
    assert run(resume=True, SOLVER__MAX_ITER=9) == [
        "model_0000006.pth", "model_0000007.pth", "model_best.pth", "model_final.pth",
    ]  # fmt: skip


def test_other_files_stay(tmp_path):
    for name in ("model_0000001.pth", "model_0000002.pth", "model_mine.pth", "model_best.pth", "notes.txt"):
        (tmp_path / name).touch()
    remove_old_checkpoints(str(tmp_path), keep=1)
    remove_old_checkpoints(str(tmp_path), keep=5)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "model_0000002.pth", "model_best.pth", "model_mine.pth", "notes.txt",
    ]  # fmt: skip


def test_the_best_checkpoint_holds_the_metrics_of_its_evaluation(run, tmp_path):
    run()
    best = torch.load(tmp_path / "out" / "model_best.pth", weights_only=True)
    assert best["metrics"] == {"segm/AP": 2.0, "segm/AP50": 4.0, "bbox/AP": 1.0}
