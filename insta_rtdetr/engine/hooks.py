"""Hooks of the training loop: the moving average, the end of augmentation, writers and drawn images."""

import logging
import os
from collections.abc import Callable

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter

from .checkpoints import BestCheckpointer
from .curves import draw_curves, forget_later_metrics, iterations_done, read_metrics
from .ema import ModelEMA

logger = logging.getLogger(__name__)
WRITE_PERIOD = 20  # iterations from one record in metrics.json to the next


class EMAHook(HookBase):
    """Updates the moving average after each iteration that changed the weights."""

    def __init__(self, ema: ModelEMA) -> None:
        self._ema = ema

    def after_step(self) -> None:
        if not self.trainer.step.skipped:
            self._ema.update(self.trainer.raw_model)


class PlainAugmentationHook(HookBase):
    """Turns strong augmentation and multi-scale off for the last iterations, also right after a resume.

    Args:
        mapper: mapper with `set_strong_augmentation`, which takes effect in the loader's processes too.
        plain_iters: number of iterations at the end without strong augmentation.
    """

    def __init__(self, mapper, plain_iters: int) -> None:
        self._mapper = mapper
        self._plain_iters = plain_iters
        self._is_plain = None

    def before_train(self) -> None:
        self._switch(self.trainer.start_iter)

    def before_step(self) -> None:
        self._switch(self.trainer.iter)

    def _switch(self, iteration: int) -> None:
        is_plain = iteration >= self.trainer.max_iter - self._plain_iters
        if is_plain == self._is_plain:
            return
        self._is_plain = is_plain
        self._mapper.set_strong_augmentation(not is_plain)
        self.trainer.raw_model.multi_scale_enabled = not is_plain
        if is_plain:
            logger.info(f"Iteration {iteration}: strong augmentation and multi-scale are off from here on")


class WritersHook(hooks.PeriodicWriter):
    """Detectron2's hook, changed so that writers are built when training begins, not when the trainer is built.

    Args:
        build_writers: function that builds the writers.
    """

    def __init__(self, build_writers: Callable[[], list[EventWriter]]) -> None:
        super().__init__([], WRITE_PERIOD)
        self._build_writers = build_writers

    def before_train(self) -> None:
        self._writers = self._build_writers()

    def flush_metrics(self) -> None:
        """Write the metrics so far to metrics.json."""
        for writer in self._writers:
            if isinstance(writer, JSONWriter):
                writer.write()


class CatchUpHook(HookBase):
    """Makes up, when a run goes on, for what its last process was killed before: the evaluation and the record.

    A checkpoint is written before the evaluation of the same iteration and before its line in metrics.json, and either
    may never have come.  Its losses are in the checkpoint for that.

    Args:
        metrics_file: metrics.json.
        period: of evaluation, iterations; 0: only at the end.
        is_evaluated: whether there is a dataset for it.
        behind: the hooks that come behind the one that writes checkpoints.
    """

    def __init__(self, metrics_file: str, period: int, is_evaluated: bool, behind: list[HookBase]) -> None:
        self._metrics_file = metrics_file
        self._period = period
        self._is_evaluated = is_evaluated
        self._behind = behind
        self._scalars: dict[str, tuple[float, bool]] = {}
        self._is_missed = False

    def state_dict(self) -> dict[str, tuple[float, bool]]:
        """Return the scalars of this iteration, which metrics.json does not have yet, and whether they are smoothed."""
        storage, hints = self.trainer.storage, self.trainer.storage.smoothing_hints()
        latest = storage.latest_with_smoothing_hint(WRITE_PERIOD).items()
        return {
            name: (float(value), hints[name])
            for name, (value, when) in latest
            if when == self.trainer.iter and "/" not in name
        }

    def load_state_dict(self, state: dict[str, tuple[float, bool]]) -> None:
        """Load what state_dict gave."""
        self._scalars = state

    def prepare_metrics(self) -> None:
        """Remove from metrics.json what will be recorded again; the main process calls it before it opens the file."""
        done = self.trainer.start_iter
        self._is_missed = self._is_missing(done - 1)
        forget_later_metrics(self._metrics_file, done - self._is_missed)

    def before_train(self) -> None:
        # All processes evaluate together, and one has the file.
        if not any(comm.all_gather(self._is_missed)):
            return
        trainer = self.trainer
        trainer.iter = trainer.storage.iter = trainer.start_iter - 1
        for name, (value, is_smoothed) in self._scalars.items():
            trainer.storage.put_scalar(name, value, smoothing_hint=is_smoothed)
        for hook in self._behind:
            hook.after_step()
        trainer.iter = trainer.storage.iter = trainer.start_iter

    def _is_missing(self, last: int) -> bool:
        done, total = last + 1, self.trainer.max_iter
        if done == 0:
            return False
        records = read_metrics(self._metrics_file) if os.path.isfile(self._metrics_file) else []
        names = {name for record in records if iterations_done(record) == done for name in record}
        is_period = self._period > 0 and done % self._period == 0
        if self._is_evaluated and is_period and done < total:
            return not any("/" in name for name in names)
        return "lr" not in names and (done == total or is_period or done % WRITE_PERIOD == 0)


class DrawingHook(HookBase):
    """Draws curves.png after each evaluation, and predictions.png and worst.png if it is the best so far.

    It must be registered after the hooks of evaluation, best checkpoint and writers.

    Args:
        output_dir: folder of metrics.json and of the drawn images.
        period: iterations between evaluations; 0 if there is only one at the end.
        batch_size: images of one iteration in all processes together.
        writers: hook that writes metrics.json.
        best: hook that knows the best evaluation; None without evaluations.
    """

    def __init__(
        self, output_dir: str, period: int, batch_size: int, writers: WritersHook, best: BestCheckpointer | None
    ) -> None:
        self._output_dir = output_dir
        self._period = period
        self._batch_size = batch_size
        self._writers = writers
        self._best = best

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._writers.flush_metrics()
            self._draw()

    def after_train(self) -> None:
        self._draw()

    def _draw(self) -> None:
        metrics_file, curves_file = (os.path.join(self._output_dir, name) for name in ("metrics.json", "curves.png"))
        try:
            draw_curves(metrics_file, curves_file, self._batch_size)
            if self._best is not None and self._best.best_iter in (None, self.trainer.storage.iter):
                self.trainer.evaluation.draw(self._output_dir)
        except OSError as error:
            # A full disk must not end the run.
            logger.warning(f"curves.png, predictions.png and worst.png were not drawn: {error}")
