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
# Several processes agree on a stop every so many iterations, since they have to wait for one another.
AGREEMENT_PERIOD = 20


@contextlib.contextmanager
def deaf_to_sigterm() -> Iterator[None]:
    """Start processes within the context that ignore SIGTERM; they end with this one.

    Slurm, systemd and others send it to all processes of a run at once, and a training whose loader is gone cannot end
    its iteration.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class TrainingStopped(BaseException):
    """Ends the loop before its last iteration; no Exception, for Detectron2 would log it as an error.

    Attributes:
        signal: what was sent to the process, or None.
    """

    def __init__(self, message: str, signal_number: int | None = None) -> None:
        super().__init__(message)
        self.signal = signal_number


_fork = threading.local()


def _hold_signals() -> None:
    """Make a signal to a process that is being forked wait, for Python forgets what comes before it has started."""
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


def _forget_training() -> None:
    """Give a forked process handlers of its own in place of its training's.

    A terminal sends Ctrl-C and its end to all processes, but those of a loader are needed until the training ends.
    SIGTERM is how multiprocessing ends the processes of a pool, and it waits for ever for one that stays.
    """
    for number in SIGNALS:
        if getattr(signal.getsignal(number), "__func__", None) is SignalHook._receive:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    _release_signals()


os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_forget_training)


class SignalHook(HookBase):
    """Ends the iteration at Ctrl-C, SIGTERM or SIGHUP, saves a checkpoint and stops.  It must be the last hook.

    A second signal does what it would do without this hook, and so does one that is ignored, as nohup has it.

    Args:
        checkpointer: writes the checkpoint.
        advice: how to go on.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self, checkpointer, advice: str) -> None:
        self.received: int | None = None
        self._checkpointer = checkpointer
        self._advice = advice
        self._before: dict[int, object] = {}

    def before_train(self) -> None:
        # Python hears signals in its main thread alone.
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._receive) for number in heard}

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or not self._is_to_stop(done):
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
        """Give the signals the handlers that they had before training.

        The trainer calls it too, because Detectron2 leaves out the hooks behind one whose `after_train` fails.
        """
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.restore()
        # Python's own streams may be in the middle of a line, and refuse to be written to from here.
        text = f"\n{SIGNALS[number]}: saving a checkpoint after this iteration; once more stops at once.\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())

    def _is_to_stop(self, iterations_done: int) -> bool:
        if comm.get_world_size() == 1:
            return self.received is not None
        if iterations_done % AGREEMENT_PERIOD:
            return False
        received = [number for number in comm.all_gather(self.received) if number is not None]
        self.received = received[0] if received else None
        return self.received is not None


class EarlyStoppingHook(HookBase):
    """Stops when evaluations have not been better for a while.  It must come after all hooks that save and draw.

    What it counts is told by `BestCheckpointer`, which a resumed run reads from the best checkpoint.

    Args:
        best: the hook that knows the best evaluation; None in all processes but the main one.
        checkpointer: writes model_final.pth.
        period: of evaluation, iterations.
        patience: evaluations in a row that may be no better than the best.
    """

    def __init__(self, best: BestCheckpointer | None, checkpointer, period: int, patience: int) -> None:
        self._best = best
        self._checkpointer = checkpointer
        self._period = period
        self._patience = patience

    def before_train(self) -> None:
        done = self.trainer.start_iter
        if self._is_hopeless(done):
            raise TrainingStopped(f"This run has stopped early at iteration {done}.  To go on {self._advice}")

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period or done == self.trainer.max_iter or not self._is_hopeless(done):
            return
        self._checkpointer.save("model_final", iteration=self.trainer.iter)
        raise TrainingStopped(
            f"Stopped early at iteration {done}: {self._patience} evaluations in a row were no better than the best, "
            f"which is in model_best.pth; the last weights are in model_final.pth.  To go on {self._advice}"
        )

    @property
    def _advice(self) -> str:
        return f"raise SOLVER.EARLY_STOPPING.PATIENCE, now {self._patience}, and --resume."

    def _is_hopeless(self, iterations_done: int) -> bool:
        # All processes have to stop at once, and one knows.
        is_hopeless = False
        if self._best is not None and self._best.best_iter is not None:
            evaluations = iterations_done // self._period - (self._best.best_iter + 1) // self._period
            is_hopeless = evaluations >= self._patience
        return any(comm.all_gather(is_hopeless))
