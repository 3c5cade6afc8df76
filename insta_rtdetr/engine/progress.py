"""Progress of trainings and evaluations: a bar on a terminal, and otherwise lines of text."""

import contextlib
import datetime
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from detectron2.engine import HookBase
from tqdm import tqdm

from .checkpoints import BestCheckpointer
from .stage import metric_name
from .stopping import sigterm_blocked

TRAINING_FORMAT = "{desc} {percentage:3.0f}%|{bar}| "
EVALUATION_FORMAT = "{desc} {n_fmt}/{total_fmt}|{bar}| {remaining} left"


def on_terminal() -> bool:
    """Return whether stdout and stderr both go to a terminal that has a width."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    # In some containers the terminal has no columns, and tqdm draws nothing.
    return os.get_terminal_size(sys.stderr.fileno()).columns > 0


class ProgressHook(HookBase):
    """Shows epoch, loss, best AP so far, images per second, memory and the time left.

    Args:
        epoch: iterations of an epoch.
        batch_size: images of an iteration in all processes together.
        best: hook that knows the best evaluation; None without evaluations.
        period: iterations between two lines.
    """

    def __init__(self, epoch: int, batch_size: int, best: BestCheckpointer | None, period: int) -> None:
        self._epoch = epoch
        self._batch_size = batch_size
        self._best = best
        self._period = period
        self._bar = None

    def before_train(self) -> None:
        self._start = time.monotonic()
        if on_terminal():
            total, start = self.trainer.max_iter, self.trainer.start_iter
            self._bar = tqdm(
                total=total, initial=start, dynamic_ncols=True, leave=False, bar_format=TRAINING_FORMAT
            )

    def after_step(self) -> None:
        # A closed terminal must not end the run.
        with contextlib.suppress(OSError):
            self._show(self.trainer.iter + 1)

    def _show(self, done: int) -> None:
        if self._bar is not None:
            self._bar.set_description_str(self._epochs(done), refresh=False)
            # The state is part of the format, because tqdm begins a postfix with a comma.
            self._bar.bar_format = TRAINING_FORMAT + "  ".join(self._state(done))
            self._bar.update()
        elif done % self._period == 0 or done % self._epoch == 0 or done == self.trainer.max_iter:
            parts = [self._epochs(done), f"iteration {done}/{self.trainer.max_iter}", *self._state(done)]
            sys.stdout.write("  ".join(parts) + "\n")
            sys.stdout.flush()

    def after_train(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def _epochs(self, done: int) -> str:
        number, total = (-(-iterations // self._epoch) for iterations in (done, self.trainer.max_iter))
        return f"epoch {number}/{total}"

    def _state(self, done: int) -> list[str]:
        histories = self.trainer.storage.histories()
        parts = []
        if "total_loss" in histories:
            parts.append(f"loss {histories['total_loss'].median(self._period):.2f}")
        if self._best is not None and self._best.best_metric is not None:
            parts.append(f"best {metric_name(self._best.metric)} {self._best.best_metric:.1f}")
        if "time" in histories:
            parts.append(f"{self._batch_size / histories['time'].avg(self._period):.3g} images/s")
        return [*parts, f"{peak_bytes(self.trainer.step.device) / 2**30:.1f} GiB", f"{self._time_left(done)} left"]

    def _time_left(self, done: int) -> datetime.timedelta:
        """Extrapolate the time that is left from the time since the start, evaluations and checkpoints included."""
        seconds = (time.monotonic() - self._start) / (done - self.trainer.start_iter)
        return datetime.timedelta(seconds=round(seconds * (self.trainer.max_iter - done)))


class EvaluationLoader:
    """Wrapper of a test loader that shows a bar on a terminal.

    Args:
        loader: the loader, which must have a length.
        title: title of the bar; empty for no bar.
    """

    def __init__(self, loader: Iterable, title: str) -> None:
        self._loader = loader
        self._title = title

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        is_shown = bool(self._title) and on_terminal()
        with sigterm_blocked():
            batches = iter(self._loader)
        with tqdm(
            batches, total=len(self), desc=self._title, disable=not is_shown, dynamic_ncols=True, leave=False,
            bar_format=EVALUATION_FORMAT,
        ) as bar:  # fmt: skip
            yield from bar


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory: PyTorch's allocations on a GPU, the resident set of the whole process on CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
