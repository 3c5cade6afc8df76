"""Tests that a training that is stopped by a signal loses nothing."""

import errno
import io
import multiprocessing
import os
import signal
import sys
import time

import pytest

from insta_rtdetr.engine import RunOptions, Trainer, TrainingPlan
from insta_rtdetr.engine import train as run_training
from insta_rtdetr.engine.checks import CheckedData
from insta_rtdetr.errors import UserError
from tests.engine.test_trainer import assert_same, read_without_folder, train
from tests.engine.tiny_training import TinySegmenter, register_dataset, tiny_cfg, write_dataset


@pytest.fixture
def dataset(tmp_path) -> str:
    write_dataset(tmp_path)
    return register_dataset("tiny_stopping", tmp_path)


@pytest.fixture(autouse=True)
def own_handlers():
    """Set signal handlers that stop the test instead of the run of all tests."""
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def send_in_iteration(number: int, iteration: int):
    """Hook for `train` with which the process sends itself a signal at the beginning of an iteration."""

    def install(trainer):
        run_step = trainer._trainer.run_step

        def step():
            if trainer.iter == iteration:
                os.kill(os.getpid(), number)
            run_step()

        trainer._trainer.run_step = step

    return install


@pytest.mark.parametrize(
    "number, name",
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP (the terminal is gone)")],
)
def test_the_iteration_is_ended_and_saved_and_the_run_goes_on_as_if_nothing_had_been(
    tmp_path, dataset, caplog, capfd, number, name
):
    caplog.set_level("INFO", "insta_rtdetr")
    train(tiny_cfg(dataset, tmp_path / "whole", DATASETS__TEST=()))
    cfg = tiny_cfg(dataset, tmp_path / "parts", DATASETS__TEST=())
    stopped = train(cfg, before=send_in_iteration(number, 2))
    assert stopped.stopped.signal == number
    assert f"Stopped by {name} after iteration 3, saved as {tmp_path}/parts/model_0000002.pth." in caplog.text
    assert f"{name}: saving a checkpoint after this iteration" in capfd.readouterr().err
    assert train(cfg, resume=True).start_iter == 3
    whole, parts = (read_without_folder(tmp_path / folder, "model_final.pth") for folder in ("whole", "parts"))
    assert_same(whole, parts)


def test_a_signal_that_is_ignored_stays_so(tmp_path, dataset):
    """This is how nohup starts a program."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    cfg = tiny_cfg(dataset, tmp_path / "out", DATASETS__TEST=())
    trainer = train(cfg, before=send_in_iteration(signal.SIGHUP, 2))
    assert trainer.stopped is None and trainer.iter == 6


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_that_is_gone_does_not_stop_training(tmp_path, dataset, monkeypatch, is_terminal):
    class Terminal(io.StringIO):
        is_gone = False

        def write(self, text: str) -> int:
            if self.is_gone:
                raise OSError(errno.EIO, "Input/output error")
            return len(text)

        def flush(self) -> None:
            self.write("")

    losses = TinySegmenter._losses

    def close_terminal(self, *arguments):
        Terminal.is_gone = True
        return losses(self, *arguments)

    monkeypatch.setattr(TinySegmenter, "_losses", close_terminal)
    monkeypatch.setattr("insta_rtdetr.engine.progress.on_terminal", lambda: is_terminal and not Terminal.is_gone)
    cfg = tiny_cfg(dataset, tmp_path / "out", SOLVER__MAX_ITER=3)
    plan = TrainingPlan(cfg, cfg, (), CheckedData([], {dataset: (4, 4)}), "tiny", RunOptions())
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        patch.setattr(sys, "stderr", Terminal())
        result = run_training(plan)
    assert Terminal.is_gone and result.checkpoint.is_file()


def test_handlers_are_as_before(tmp_path, dataset):
    train(tiny_cfg(dataset, tmp_path / "a", DATASETS__TEST=()))
    train(tiny_cfg(dataset, tmp_path / "b", DATASETS__TEST=()), before=send_in_iteration(signal.SIGINT, 1))
    assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is signal.default_int_handler


def test_the_second_signal_stops_at_once(tmp_path, dataset):
    def twice(trainer):
        send_in_iteration(signal.SIGINT, 2)(trainer)
        send_in_iteration(signal.SIGINT, 2)(trainer)

    with pytest.raises(KeyboardInterrupt):
        train(tiny_cfg(dataset, tmp_path / "out", DATASETS__TEST=()), before=twice)
    assert not list((tmp_path / "out").glob("*.pth"))


def test_an_evaluation_is_given_up_and_what_came_before_it_is_saved(tmp_path, dataset, monkeypatch):
    seen = []
    forward = TinySegmenter.forward

    def interrupted(self, batch):
        if not self.training:
            seen.append(batch)
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, batch)

    monkeypatch.setattr(TinySegmenter, "forward", interrupted)
    trainer = train(tiny_cfg(dataset, tmp_path / "out", TEST__EVAL_PERIOD=2))
    assert len(seen) == 1 and trainer.stopped.signal == signal.SIGTERM and trainer.raw_model.training
    assert sorted(file.name for file in (tmp_path / "out").glob("*.pth")) == ["model_0000001.pth"]
    # The checkpoint has the weights that training continues with, not the evaluated average.
    saved = read_without_folder(tmp_path / "out", "model_0000001.pth")
    assert_same(dict(saved["raw_model"]), dict(trainer.raw_model.state_dict()))


def test_in_the_last_iteration_training_ends_as_always(tmp_path, dataset):
    trainer = train(tiny_cfg(dataset, tmp_path / "out", DATASETS__TEST=()), before=send_in_iteration(signal.SIGINT, 5))
    assert trainer.stopped is None and (tmp_path / "out" / "model_final.pth").is_file()


def test_the_loaders_processes_do_not_hear_sigterm(tmp_path, dataset):
    """Slurm sends SIGTERM to all processes of a run."""

    def kill_loaders(trainer):
        send = send_in_iteration(signal.SIGTERM, 2)
        run_step = trainer._trainer.run_step

        def step():
            if trainer.iter == 2:
                for child in os.listdir(f"/proc/{os.getpid()}/task"):
                    with open(f"/proc/{os.getpid()}/task/{child}/children") as children:
                        for pid in children.read().split():
                            os.kill(int(pid), signal.SIGTERM)
            run_step()

        trainer._trainer.run_step = step
        send(trainer)

    cfg = tiny_cfg(dataset, tmp_path / "out", DATASETS__TEST=(), DATALOADER__NUM_WORKERS=1, SOLVER__MAX_ITER=12)
    trainer = train(cfg, before=kill_loaders)
    assert trainer.stopped.signal == signal.SIGTERM and (tmp_path / "out" / "model_0000002.pth").is_file()


def test_nothing_is_heard_after_training(tmp_path, dataset):
    trainer = Trainer(tiny_cfg(dataset, tmp_path / "out"))
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler and trainer.stopped is None


def test_handlers_are_as_before_when_the_last_evaluation_fails(tmp_path, dataset, monkeypatch):
    def fail(*arguments):
        raise UserError("broken image")

    before = signal.getsignal(signal.SIGTERM)
    trainer = Trainer(tiny_cfg(dataset, tmp_path / "out", TEST__EVAL_PERIOD=0))
    monkeypatch.setattr(trainer.evaluation, "run", fail)
    with pytest.raises(UserError, match="broken image"):
        trainer.train()
    assert signal.getsignal(signal.SIGTERM) is before


def test_processes_started_during_training_end_at_sigterm(tmp_path, dataset):
    """The processes are like those of the pool with which Detectron2 reads Cityscapes, which may be closed at once."""
    ended = []

    def start_and_end(trainer):
        run_step = trainer._trainer.run_step

        def step():
            if trainer.iter == 1:
                for delay in (0, 0, 0, 0, 0.2):
                    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
                    child.start()
                    time.sleep(delay)
                    child.terminate()
                    child.join(10)
                    ended.append(child.exitcode)
                    child.kill()
            run_step()

        trainer._trainer.run_step = step

    trainer = train(tiny_cfg(dataset, tmp_path / "out", DATASETS__TEST=()), before=start_and_end)
    assert ended == [-signal.SIGTERM] * 5 and trainer.stopped is None
