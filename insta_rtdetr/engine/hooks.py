"""Hooks of the training loop that Detectron2 does not have, or has otherwise."""

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter, get_event_storage
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .curves import draw_curves
from .ema import ModelEMA

logger = logging.getLogger(__name__)


class EMAHook(HookBase):
    """Moves the average after each iteration that changed the weights."""

    def __init__(self, ema: ModelEMA) -> None:
        self._ema = ema

    def after_step(self) -> None:
        if not self.trainer.step.skipped:
            self._ema.update(self.trainer.raw_model)


class PlainAugmentationHook(HookBase):
    """Turns strong augmentation and multi-scale off for the last iterations, also right after a resume.

    Args:
        mapper: has set_strong_augmentation(bool), which the loader's processes hear.
        plain_iters: how many iterations at the end are plain.
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


class BestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's, but a resumed run knows the best value so far: it is kept in the best checkpoint itself."""

    def before_train(self) -> None:
        file = os.path.join(self._checkpointer.save_dir, f"{self._file_prefix}.pth")
        if self.trainer.start_iter == 0 or not os.path.isfile(file):
            return
        # mmap: only the two numbers are read, not the weights.
        checkpoint = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        if checkpoint.get("best_metric_name") == self._val_metric:
            self.best_metric, self.best_iter = checkpoint["best_metric"], checkpoint["iteration"]
            logger.info(f"Best {self._val_metric} so far: {self.best_metric:.3f} (iteration {self.best_iter})")

    def _best_checking(self) -> None:
        latest = get_event_storage().latest().get(self._val_metric)
        if latest is None:
            logger.warning(f"{self._val_metric} was not computed: no best checkpoint.  Set TEST.BEST_METRIC.")
            return
        value, iteration = latest
        if self.best_metric is not None and not self._compare(value, self.best_metric):
            logger.info(f"{self._val_metric} {value:.3f} is not better than {self.best_metric:.3f}")
            return
        if not self._update_best(value, iteration):
            logger.warning(f"{self._val_metric} is {value}: no best checkpoint")
            return
        state = {"iteration": iteration, "best_metric": value, "best_metric_name": self._val_metric}
        self._checkpointer.save(self._file_prefix, **state)
        logger.info(f"Best {self._val_metric} so far: {value:.3f} (iteration {iteration})")


class TrainingStopped(BaseException):
    """Ends the loop before its last iteration; no Exception, for Detectron2 would log it as an error."""


class EarlyStoppingHook(HookBase):
    """Stops when evaluations have not been better for a while.  To stand after all other hooks.

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


class CurvesHook(HookBase):
    """Draws curves.png after each evaluation.  To stand after the evaluation and the writers.

    Args:
        output_dir: holds metrics.json.
        period: of evaluation, iterations; 0: only at the end.
        batch_size: images of one iteration, all processes together.
        writers: those of the run; the one of metrics.json is flushed first.
    """

    def __init__(self, output_dir: str, period: int, batch_size: int, writers: Sequence[EventWriter]) -> None:
        self._output_dir = output_dir
        self._period = period
        self._batch_size = batch_size
        self._json_writers = [writer for writer in writers if isinstance(writer, JSONWriter)]

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            for writer in self._json_writers:
                writer.write()
            self._draw()

    def after_train(self) -> None:
        self._draw()

    def _draw(self) -> None:
        try:
            draw_curves(
                os.path.join(self._output_dir, "metrics.json"),
                os.path.join(self._output_dir, "curves.png"),
                self._batch_size,
            )
        except OSError as error:
            # A full disk must not cost the run.
            logger.warning(f"curves.png was not drawn: {error}")


class ProgressBarHook(HookBase):
    """One line on a terminal: iterations, time left, speed, loss.

    Args:
        stream: where to; nothing is drawn unless it is a terminal (there, the log has a line for every 20 iterations).
    """

    def __init__(self, stream) -> None:
        self._stream = stream
        self._bar = None
        self._contexts = ExitStack()

    def before_train(self) -> None:
        if self._stream.isatty():
            # Log lines go above the bar instead of through it.
            loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "insta_rtdetr")]
            self._contexts.enter_context(logging_redirect_tqdm(loggers))
            total, start = self.trainer.max_iter, self.trainer.start_iter
            self._bar = tqdm(total=total, initial=start, file=self._stream, unit="it", dynamic_ncols=True, leave=False)

    def after_step(self) -> None:
        if self._bar is None:
            return
        loss = self.trainer.storage.latest().get("total_loss")
        if loss is not None:
            self._bar.set_postfix_str(f"loss {loss[0]:.3f}", refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._contexts.close()
