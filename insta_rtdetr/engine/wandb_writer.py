"""Weights & Biases."""

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from .errors import UserError


class WandbWriter(EventWriter):
    """Sends every new scalar to Weights & Biases.

    Args:
        cfg: WANDB.PROJECT names the project; the whole config is stored with the run.
    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, cfg: CfgNode, window_size: int = 20) -> None:
        self._window_size = window_size
        self._last_write = -1
        self._run = import_wandb().init(project=cfg.WANDB.PROJECT, dir=cfg.OUTPUT_DIR, config={"yaml": cfg.dump()})

    def write(self) -> None:
        """Send what is new since the last call."""
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
    """The module wandb.

    Raises:
        UserError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "WANDB.ENABLED is True, but wandb is not installed.  Run `pip install wandb` or set WANDB.ENABLED to False."
        ) from error
    return wandb
