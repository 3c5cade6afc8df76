"""Hooks that save checkpoints and keep the newest and the best of them."""

import logging
from pathlib import Path

from detectron2.engine import hooks
from detectron2.utils.events import get_event_storage

from insta_rtdetr.checkpoint import read_checkpoint
from insta_rtdetr.errors import CheckpointError

logger = logging.getLogger(__name__)


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's hook, changed so that it counts model_final.pth and files from before a resume among those it keeps.

    Args:
        checkpointer: saves the checkpoints.
        period: iterations between checkpoints.
        keep: number of files that are kept (SOLVER.KEEP_CHECKPOINTS), not counting model_best.pth; 0 keeps all.
    """

    def __init__(self, checkpointer, period: int, keep: int) -> None:
        super().__init__(checkpointer, period)
        self._keep = keep

    def step(self, iteration: int, **kwargs) -> None:
        """Save a checkpoint if it is due, then remove the oldest beyond `keep`, unless training may be diverging."""
        is_last = self.max_iter is not None and iteration >= self.max_iter - 1
        if is_last:
            # The last checkpoint is saved only as model_final.pth, not by number as well.
            self.checkpointer.save(f"{self.file_prefix}_final", iteration=iteration, **kwargs)
        else:
            super().step(iteration, **kwargs)
        if self._keep and not self.trainer.step.is_unstable and (is_last or (iteration + 1) % self.period == 0):
            remove_old_checkpoints(self.checkpointer.save_dir, self._keep - is_last)


def remove_old_checkpoints(folder: str, keep: int) -> None:
    """Remove all numbered checkpoints except the newest `keep`; model_best.pth and model_final.pth are kept."""
    files = sorted(Path(folder).glob("model_[0-9]*.pth"))
    for file in files[: max(len(files) - keep, 0)]:
        file.unlink(missing_ok=True)


class BestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's hook, changed so that a resumed run reads the best value so far from the best checkpoint.

    Attributes:
        metrics: metrics of the best evaluation by Detectron2's names, for example "segm/AP50".
    """

    def __init__(self, eval_period: int, checkpointer, val_metric: str) -> None:
        super().__init__(eval_period, checkpointer, val_metric)
        self.metrics: dict[str, float] = {}

    @property
    def metric(self) -> str:
        """Return the name of the metric that decides which evaluation is the best."""
        return self._val_metric

    @property
    def file(self) -> Path:
        """Return the path of the best checkpoint."""
        return Path(self._checkpointer.save_dir) / f"{self._file_prefix}.pth"

    def before_train(self) -> None:
        if self.trainer.start_iter == 0 or not self.file.is_file():
            return
        try:
            checkpoint = read_checkpoint(str(self.file))
        except CheckpointError as error:
            logger.warning(f"{str(error).removesuffix(' Change MODEL.WEIGHTS.')} The next evaluation is the best one.")
            return
        if checkpoint.get("best_metric_name") == self._val_metric:
            self.best_metric, self.best_iter = checkpoint["best_metric"], checkpoint["iteration"]
            self.metrics = checkpoint.get("metrics", {})
            logger.info(f"Best {self._val_metric} so far: {self.best_metric:.3f} (iteration {self.best_iter})")

    def _best_checking(self) -> None:
        if self.trainer.evaluation.stopped:
            return
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
        self.metrics = _metrics_of(iteration)
        state = {"best_metric": value, "best_metric_name": self._val_metric, "metrics": self.metrics}
        self._checkpointer.save(self._file_prefix, iteration=iteration, **state)
        logger.info(f"Best {self._val_metric} so far: {value:.3f} (iteration {iteration})")


def _metrics_of(iteration: int) -> dict[str, float]:
    """Return the metrics of the evaluation after an iteration: the only scalars with a slash in their names."""
    latest = get_event_storage().latest().items()
    return {name: value for name, (value, when) in latest if "/" in name and when == iteration}
