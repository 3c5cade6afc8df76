"""Writers of training metrics: lines in the log, and Weights & Biases."""

from collections.abc import Iterable

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import CommonMetricPrinter, EventWriter, get_event_storage

from insta_rtdetr.errors import UserError


def main_losses(names: Iterable[str]) -> list[str]:
    """Return the losses of the last layer: the names that are not another loss's name with a suffix.

    ["loss_box", "loss_box_aux_0", "loss_box_enc", "loss_mask_dice"] -> ["loss_box", "loss_mask_dice"]
    """
    losses = [name for name in names if name.startswith("loss")]
    return [name for name in losses if not any(name.startswith(f"{other}_") for other in losses)]


class ProgressPrinter(CommonMetricPrinter):
    """Detectron2's line in the log, with the losses of `main_losses` instead of all."""

    def write(self) -> None:
        """Log iteration, time left, losses (medians of 20 iterations), speed, learning rate and memory."""
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return
        histories = storage.histories()
        parts = [f"iter: {storage.iter + 1}/{self._max_iter}"]
        if left := self._get_eta(storage):
            parts.append(f"time left: {left}")
        losses = ["total_loss", *main_losses(histories)]
        parts += [f"{name}: {histories[name].median(self._window_size):.4g}" for name in losses if name in histories]
        for name in ("time", "data_time"):
            if name in histories:
                parts.append(f"{name}: {histories[name].avg(self._window_size):.3f} s")
        if "lr" in histories:
            parts.append(f"lr: {histories['lr'].latest():.3g}")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
        self.logger.info("  ".join(parts))


class WandbWriter(EventWriter):
    """Sends every new scalar to Weights & Biases.

    Args:
        cfg: the config, which is stored with the run; WANDB.PROJECT is the name of the project.
        window_size: number of iterations over which scalars are smoothed.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, cfg: CfgNode, window_size: int = 20) -> None:
        self._window_size = window_size
        self._last_write = -1
        self._run = import_wandb().init(project=cfg.WANDB.PROJECT, dir=cfg.OUTPUT_DIR, config={"yaml": cfg.dump()})

    def write(self) -> None:
        """Send the scalars that are new since the last call."""
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        by_iteration: dict[int, dict] = {}
        for name, (value, iteration) in latest.items():
            if iteration > self._last_write:
                by_iteration.setdefault(iteration, {})[name] = value
        for iteration in sorted(by_iteration):
            self._run.log(by_iteration[iteration], step=iteration)
            self._last_write = iteration

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def import_wandb():
    """Import and return the module wandb.

    Raises:
        UserError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "WANDB.ENABLED is True, but wandb is not installed.  Run `pip install wandb` or set WANDB.ENABLED to False."
        ) from error
    return wandb
