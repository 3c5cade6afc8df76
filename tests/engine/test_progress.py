import io
import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage

from insta_rtdetr.engine.progress import EvaluationLoader, ProgressHook


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


@pytest.fixture
def make_terminal(monkeypatch) -> Callable[..., Terminal]:
    """Return a function that replaces stdout and stderr by a terminal; called in the test, after pytest's capture."""

    def make(columns: int = 100) -> Terminal:
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((columns, 30)))
        return stream

    return make


def run(start: int = 40, stop: int = 60, last_seconds: float = 0.0) -> None:
    """Run iterations of two images of a training of 60 iterations in epochs of 20, with a best mask AP of 31.24."""
    best = SimpleNamespace(best_metric=31.24, metric="segm/AP")
    hook = ProgressHook(epoch=20, batch_size=2, best=best, period=8)
    with EventStorage(start) as storage:
        step = SimpleNamespace(device=torch.device("cpu"))
        hook.trainer = SimpleNamespace(start_iter=start, max_iter=60, storage=storage, step=step)
        hook.before_train()
        for storage.iter in range(start, stop):
            hook.trainer.iter = storage.iter
            storage.put_scalars(total_loss=1.5, time=0.25)
            time.sleep(last_seconds if storage.iter == stop - 1 else 0)
            hook.after_step()
        hook.after_train()


def test_a_terminal_shows_one_line_that_is_drawn_anew(make_terminal):
    terminal = make_terminal()
    run(last_seconds=0.2)  # tqdm draws no more than ten times a second
    shown = terminal.getvalue()
    assert "\n" not in shown
    last = shown.split("\r")[-3]
    for part in ("epoch 3/3 100%|", "| loss 1.50  best mask AP 31.2  8 images/s", " GiB  0:00:00 left"):
        assert part in last, last


def test_a_file_gets_a_line_every_few_iterations_and_at_the_end_of_an_epoch(capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        ["epoch 3/3", f"iteration {done}/60"] for done in (48, 56, 60)
    ]
    assert "loss 1.50  best mask AP 31.2  8 images/s" in lines[0] and lines[-1].endswith(" GiB  0:00:00 left")


def test_the_time_left_counts_what_lies_between_iterations(capsys, monkeypatch):
    now = iter([100.0, *[100.0 + 3.0 * i for i in range(1, 20)]])
    monkeypatch.setattr("insta_rtdetr.engine.progress.time.monotonic", lambda: next(now))
    run(stop=48)
    assert capsys.readouterr().out.splitlines()[0].endswith("0:00:04 left")  # 8 iterations took 3 s, 12 are left


def test_a_terminal_without_width_gets_lines(make_terminal):
    terminal = make_terminal(columns=0)
    run()
    assert "iteration 60/60" in terminal.getvalue() and "\r" not in terminal.getvalue()


def test_an_evaluation_has_a_bar_on_a_terminal(make_terminal):
    terminal = make_terminal()
    loader = EvaluationLoader([1, 2], "evaluation on val")
    assert list(loader) == [1, 2] and len(loader) == 2
    assert "evaluation on val 0/2" in terminal.getvalue()


def test_an_evaluation_writes_nothing_into_a_file(capsys):
    assert list(EvaluationLoader([1, 2], "evaluation on val")) == [1, 2]
    assert capsys.readouterr() == ("", "")
