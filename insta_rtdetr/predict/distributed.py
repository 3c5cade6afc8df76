"""Offline prediction on a cluster with Ray Data, which is an optional dependency.

Each worker holds a model, gets batches of inputs and returns their records.  When a worker dies, Ray starts another
one, which gets the batches that were not finished.
"""

import json
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from insta_rtdetr.errors import UserError, one_line
from insta_rtdetr.predict.runtime.session import is_exported

from .create import exported_model, model_config
from .journal import Record
from .recorder import Recorder, Settings, Task

if TYPE_CHECKING:
    import ray

# Number of batches in a block of Ray, which is repeated as a whole when a worker dies.
BATCHES_IN_BLOCK = 8


class Worker:
    """Worker of Ray, which holds a model in a process of its own."""

    def __init__(self, settings: Settings, folder: str) -> None:
        """Load the model; relative paths start at `folder`."""
        os.chdir(folder)
        self.recorder = Recorder(settings)

    def __call__(self, rows: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        """Predict rows of tasks, and yield rows of records; both are in JSON."""
        yield _row(self.recorder.header())
        for batch in rows["batch"]:
            for record in self.recorder.records([Task(**task) for task in json.loads(batch)]):
                yield _row(record)


def records_on_ray(settings: Settings, batches: list[list[Task]], num_workers: int) -> Iterator[Record]:
    """Yield the records of `Recorder`, in the order in which they are finished.

    The cluster is the one that this process is connected to (`ray.init(address=...)`, or the variable RAY_ADDRESS),
    else this machine.  Each worker takes a GPU if this machine has one.

    Raises:
        UserError: the package ray is not installed, the settings give no model, or a worker failed.
    """
    check_model(settings)  # Errors in the settings are reported before Ray starts.
    ray = _import_ray()
    if not ray.is_initialized():
        ray.init(include_dashboard=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False  # The caller has a progress bar.
    rows = [{"batch": json.dumps([vars(task) for task in batch])} for batch in batches]
    num_blocks = max(num_workers, -(-len(rows) // BATCHES_IN_BLOCK))
    records = ray.data.from_items(rows, override_num_blocks=min(num_blocks, len(rows))).map_batches(
        Worker,
        fn_constructor_args=(settings, os.getcwd()),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(num_workers, len(rows))),
        num_gpus=1 if torch.cuda.is_available() else 0,
    )
    try:
        for row in records.iter_rows():
            yield json.loads(row["record"])
    except ray.exceptions.RayError as error:
        raise UserError(f"A worker of Ray failed: {one_line(error)}") from error


def check_model(settings: Settings) -> None:
    """Check the settings of a model without building it.

    Raises:
        UserError: see `create_model`.
    """
    if is_exported(settings.model):
        exported_model(settings.model, settings.weights, settings.device, list(settings.opts))
    else:
        model_config(settings.model, settings.weights, list(settings.opts))


def _row(record: Record) -> dict[str, list[str]]:
    return {"record": [json.dumps(record)]}


def _import_ray() -> "ray":
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError("Several workers need the package ray.  Run: pip install 'ray[data]'") from error
    return ray
