"""Tiny trainings by the real command, and what they leave in their folder."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import torch

from insta_rtdetr.engine.command_line import main
from insta_rtdetr.engine.curves import read_metrics
from insta_rtdetr.engine.step import OptimizationStep
from tests.engine.tiny_training import register_dataset, tiny_overrides, write_dataset

from .children import FORK, Child

ITERATIONS, PERIOD = 60, 2
_numbers = itertools.count()
SETTINGS = {
    "SOLVER__MAX_ITER": ITERATIONS,
    "SOLVER__STEPS": (30,),
    "SOLVER__CHECKPOINT_PERIOD": PERIOD,
    "TEST__EVAL_PERIOD": 30,
}


class Trainings:
    """Trainings of one dataset, each in a folder of its own.

    Args:
        folder: for all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        write_dataset(folder)
        self._dataset = register_dataset("tiny_faults", folder)

    def start(
        self, output: Path, *options: str, before: Callable[[], None] = lambda: None, **settings
    ) -> "Training":
        """Start one.

        Args:
            output: its OUTPUT_DIR.
            options: of the command, such as --resume.
            before: called in its process before anything else.
            settings: config keys, see `tiny_overrides`.
        """
        overrides = tiny_overrides(self._dataset, output, **{**SETTINGS, **settings})
        return Training(output, [*options, *overrides], before)


class Training(Child):
    """A training in a process of its own, which counts its iterations.

    Attributes:
        output: its OUTPUT_DIR.
    """

    def __init__(self, output: Path, arguments: list[str], before: Callable[[], None]) -> None:
        self.output = output
        self._done = FORK.Value("i", 0, lock=False)
        log = output.with_suffix(f".{next(_numbers)}.log")
        super().__init__(self._train, arguments, before, log=log)

    @property
    def iterations_done(self) -> int:
        """Iterations after which the weights have changed."""
        return self._done.value

    def _train(self, arguments: list[str], before: Callable[[], None]) -> int:
        torch.set_num_threads(1)
        run_step = OptimizationStep.run_step

        def counted(step: OptimizationStep) -> None:
            run_step(step)
            self._done.value = step.iter + 1

        OptimizationStep.run_step = counted
        before()
        return main(arguments)


def whole_checkpoints(output: Path) -> dict[str, int]:
    """Name -> iterations done, of all checkpoints in a folder.

    Raises:
        Exception: one cannot be read.
    """
    files = {file.name: torch.load(file, weights_only=True) for file in sorted(output.glob("model_*.pth"))}
    return {name: content["iteration"] + 1 for name, content in files.items()}


def weights_of(output: Path, name: str = "model_final") -> dict[str, torch.Tensor]:
    """The weights, and their moving average, of a checkpoint of a training."""
    content = torch.load(output / f"{name}.pth", weights_only=True)
    return content["raw_model"] | {f"ema.{name}": value for name, value in content["model"].items()}


def wrong_metrics(output: Path, wanted: list[int]) -> str:
    """What is wrong with metrics.json: a line that is no JSON, a gap, or an iteration twice; else an empty string."""
    try:
        lines = [json.loads(line)["iteration"] for line in (output / "metrics.json").read_text().splitlines()]
    except ValueError as error:
        return f"metrics.json: {error}"
    drawn = [record["iteration"] for record in read_metrics(str(output / "metrics.json"))]
    if lines != wanted or drawn != wanted:
        return f"metrics.json has the iterations {lines}, the curves {drawn}, wanted {wanted}"
    return ""
