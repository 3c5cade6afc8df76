"""Hooks that end a training before its last iteration: without progress, and at a signal."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from detectron2.engine import HookBase
from detectron2.utils import comm

from .checkpoints import BestCheckpointer

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP (the terminal is gone)"}
# Number of iterations after which several processes exchange whether to stop, because they have to stop together.
AGREEMENT_PERIOD = 20


@contextlib.contextmanager
def sigterm_blocked() -> Iterator[None]:
    """Block SIGTERM in the processes that are started within the context, which end with this process.

    Slurm, systemd and others send SIGTERM to all processes of a run at once, and a training cannot finish its iteration
    without the processes of its loader.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class TrainingStopped(BaseException):
    """Raised to end training before its last iteration; not an Exception, which Detectron2 would log as an error.

    Attributes:
        signal: number of the signal that the process received, or None.
    """

    def __init__(self, message: str, signal_number: int | None = None) -> None:
        super().__init__(message)
        self.signal = signal_number


_fork = threading.local()


def _hold_signals() -> None:
    """Block signals while a process is forked, because Python would lose one that arrives before the child runs."""
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


def _forget_training() -> None:
    """Replace the training's signal handlers in a forked process.

    A terminal sends SIGINT and SIGHUP to all processes, but those of a loader are needed until the training ends, so
    these signals are ignored.  SIGTERM has its default effect, because multiprocessing uses it to end the processes of
    a pool and would wait for ever otherwise.
    """
    for number in SIGNALS:
        if getattr(signal.getsignal(number), "__func__", None) is SignalHook._receive:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    _release_signals()


os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_forget_training)


class SignalHook(HookBase):
    """Stops training at Ctrl-C, SIGTERM or SIGHUP after the iteration, with a checkpoint.  It must be the last hook.

    A second signal has the effect that it has without this hook.  A signal that was ignored before training, as SIGHUP
    under nohup, stays ignored.

    Args:
        checkpointer: writes the checkpoint.
        advice: sentence on how to resume, which ends the message.

    Attributes:
        received: number of the signal, or None.
    """

    def __init__(self, checkpointer, advice: str) -> None:
        self.received: int | None = None
        self._checkpointer = checkpointer
        self._advice = advice
        self._before: dict[int, object] = {}

    def before_train(self) -> None:
        # Python allows signal handlers only in the main thread.
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._receive) for number in heard}

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or not self._should_stop(done):
            return
        name = f"model_{self.trainer.iter:07d}"
        self._checkpointer.save(name, iteration=self.trainer.iter)
        file = f"{self._checkpointer.save_dir}/{name}.pth"
        raise TrainingStopped(
            f"Stopped by {SIGNALS[self.received]} after iteration {done}, saved as {file}.  {self._advice}",
            self.received,
        )

    def after_train(self) -> None:
        self.restore()

    def restore(self) -> None:
        """Restore the signal handlers from before training.

        The trainer calls it too, because Detectron2 skips the hooks after one whose `after_train` fails.
        """
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.restore()
        # Python's own streams may be in use and cannot be written to from a signal handler then.
        text = f"\n{SIGNALS[number]}: saving a checkpoint after this iteration; once more stops at once.\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())

    def _should_stop(self, iterations_done: int) -> bool:
        if comm.get_world_size() == 1:
            return self.received is not None
        if iterations_done % AGREEMENT_PERIOD:
            return False
        received = [number for number in comm.all_gather(self.received) if number is not None]
        self.received = received[0] if received else None
        return self.received is not None


class EarlyStoppingHook(HookBase):
    """Stops training when several evaluations in a row were no better than the best.

    It must be registered after all hooks that save and draw.  A resumed run continues to count, because
    `BestCheckpointer` reads the best evaluation from the best checkpoint.

    Args:
        best: hook that knows the best evaluation; None in all processes but the main one.
        checkpointer: writes model_final.pth.
        period: iterations between evaluations.
        patience: number of evaluations without improvement after which training stops.
    """

    def __init__(self, best: BestCheckpointer | None, checkpointer, period: int, patience: int) -> None:
        self._best = best
        self._checkpointer = checkpointer
        self._period = period
        self._patience = patience

    def before_train(self) -> None:
        done = self.trainer.start_iter
        if self._is_out_of_patience(done):
            raise TrainingStopped(f"This run has stopped early at iteration {done}.  To go on {self._advice}")

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period or done == self.trainer.max_iter or not self._is_out_of_patience(done):
            return
        self._checkpointer.save("model_final", iteration=self.trainer.iter)
        raise TrainingStopped(
            f"Stopped early at iteration {done}: {self._patience} evaluations in a row were no better than the best, "
            f"which is in model_best.pth; the last weights are in model_final.pth.  To go on {self._advice}"
        )

    @property
    def _advice(self) -> str:
        return f"raise SOLVER.EARLY_STOPPING.PATIENCE, now {self._patience}, and --resume."

    def _is_out_of_patience(self, iterations_done: int) -> bool:
        # The main process knows the best evaluation, and all processes have to stop together.
        is_out_of_patience = False
        if self._best is not None and self._best.best_iter is not None:
            evaluations = iterations_done // self._period - (self._best.best_iter + 1) // self._period
            is_out_of_patience = evaluations >= self._patience
        return any(comm.all_gather(is_out_of_patience))
