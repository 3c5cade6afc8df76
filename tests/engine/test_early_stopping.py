"""Tests that a run without progress stops with a message, and that --resume does not continue it."""

import logging

import pytest
import torch

from insta_rtdetr.engine import Trainer
from tests.engine.test_trainer import train
from tests.engine.tiny_training import register_dataset, tiny_cfg, write_dataset


@pytest.fixture
def run(tmp_path, monkeypatch, empty_curves):
    """Train up to twelve iterations with an evaluation every two, which returns the next of the given scores."""
    write_dataset(tmp_path)
    dataset = register_dataset("tiny_early_stopping", tmp_path)
    scores = iter(())
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: {"segm": {"AP": next(scores)}}))

    def run(new_scores: list[float], patience: int = 2, resume: bool = False, **more) -> Trainer:
        nonlocal scores
        scores = iter(new_scores)
        more = {"SOLVER__CHECKPOINT_PERIOD": 2, "TEST__EVAL_PERIOD": 2, "SOLVER__MAX_ITER": 12} | more
        cfg = tiny_cfg(dataset, tmp_path / "out", SOLVER__EARLY_STOPPING__PATIENCE=patience, **more)
        return train(cfg, resume)

    return run


def test_it_stops_after_the_patience_with_a_final_checkpoint(run, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "insta_rtdetr"):
        trainer = run([10.0, 20.0, 15.0, 20.0])
    assert trainer.iter == 7
    assert "Stopped early at iteration 8: 2 evaluations in a row" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    final, best = (
        torch.load(tmp_path / "out" / f"model_{name}.pth", weights_only=True) for name in ("final", "best")
    )
    assert final["iteration"] == 7 and final["ema"]["updates"] == 8 and best["iteration"] == 3
    assert (tmp_path / "out" / "curves.png").is_file()


def test_a_better_evaluation_starts_the_count_anew(run):
    assert run([1.0, 0.0, 2.0, 1.0, 3.0, 2.0]).iter == 12


def test_it_never_stops_without_patience(run):
    assert run([5.0, 4.0, 3.0, 2.0, 1.0, 0.0], patience=0).iter == 12


def test_the_count_outlives_a_resume(run, tmp_path):
    class Killed(Exception):
        pass

    def killed() -> float:
        raise Killed

    # The evaluation at iteration 2 is the best, that at 4 is no better, and the run is killed in that at 6.
    with pytest.raises(Killed):
        run(value if value else killed() for value in (20.0, 15.0, None))
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000003.pth")
    assert run([15.0], resume=True).iter == 5


def test_a_stopped_run_goes_on_with_more_patience_only(run, caplog):
    run([20.0, 15.0, 15.0])
    with caplog.at_level(logging.INFO, "insta_rtdetr"):
        assert run([], resume=True).iter == 6
    assert "has stopped early at iteration 6" in caplog.text and "PATIENCE, now 2" in caplog.text
    assert run([15.0], patience=3, resume=True).iter == 7
