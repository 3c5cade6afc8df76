"""Lists of trainings that differ in a few config keys.

A list is a YAML file.  Its keys at the top hold for all runs, and each run may change them:

    config: insta_rtdetr_MNV2_D3_320      # file or name
    dataset: path/to/nuclei               # as --dataset; "" for the config's datasets
    iterations: 250
    seeds: [42, 43, 44]
    overrides: {INPUT.MIN_SIZE_TEST: 224} # a run's overrides are added to these
    runs:
      - name: baseline
      - name: muon
        overrides: {SOLVER.OPTIMIZER: Muon}

The run `muon` with the seed 43 trains in OUT/muon/seed_43.
"""

import dataclasses
import logging
import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from insta_rtdetr.errors import UserError

from ..curves import iterations_done, read_metrics
from ..setup import setup_cfg

logger = logging.getLogger(__name__)

# Keys of a list besides `runs`, with their defaults.
DEFAULTS = {"config": "", "dataset": "", "iterations": 0, "seeds": [42], "overrides": {}}
METRICS = ("segm/AP", "bbox/AP")
_ROOT = str(Path(__file__).resolve().parents[3])


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a list.

    Attributes:
        name: name of the variant that is tried.
        seed: SEED.
        config: file or name of the config.
        dataset: path of the dataset; empty for the config's datasets.
        changes: config keys and values that are set for this name alone.
        overrides: all config keys and values that are set, including `changes`.
        iterations: SOLVER.MAX_ITER.
        folder: OUTPUT_DIR.
    """

    name: str
    seed: int
    config: str
    dataset: str
    changes: dict[str, Any]
    overrides: dict[str, Any]
    iterations: int
    folder: Path

    def arguments(self) -> list[str]:
        """Return the arguments of `insta-rtdetr train`; a run with a checkpoint is resumed."""
        # Set, because with --dataset training would otherwise start from the published weights.
        settings = {"MODEL.WEIGHTS": setup_cfg(self.config, []).MODEL.WEIGHTS} | self.overrides | {
            "SOLVER.MAX_ITER": self.iterations, "SEED": self.seed, "OUTPUT_DIR": str(self.folder)
        }  # fmt: skip
        words = ["--config-file", self.config]
        words += ["--dataset", self.dataset] if self.dataset else []
        words += ["--resume"] if (self.folder / "last_checkpoint").is_file() else []
        return words + [_word(part) for setting in settings.items() for part in setting]


@dataclasses.dataclass(frozen=True)
class Result:
    """The metrics of a run.

    Attributes:
        run: the run.
        curves: metric -> (iterations done, AP) of every evaluation, in order.
        seconds: median wall time of an iteration; NaN if not known.
        batch_size: images of an iteration.
        is_complete: whether the evaluation after the last iteration has been made.
    """

    run: Run
    curves: dict[str, list[tuple[int, float]]]
    seconds: float
    batch_size: int
    is_complete: bool

    @property
    def main_metric(self) -> str:
        """Return the name of the metric that is compared: mask AP, or box AP for a model without masks."""
        return next(metric for metric in METRICS if metric in self.curves)

    def final(self, metric: str) -> float:
        """Return the last value of a metric."""
        return self.curves[metric][-1][1]


def read_list(
    file: str | os.PathLike, folder: Path, dataset: str = "", overrides: dict[str, Any] | None = None
) -> list[Run]:
    """Read a list.  The runs with the first seed of each name come first, so that results can be compared early.

    Args:
        file: the YAML file.
        folder: parent of the folders of the runs.
        dataset: dataset that replaces the list's, if not empty.
        overrides: config keys and values for all runs, which are added to those of the list.

    Raises:
        UserError: the file cannot be read or is not such a list.
    """
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read as a list of runs: {error}") from error
    entries = content.pop("runs", None) if isinstance(content, dict) else None
    if not entries or not all(isinstance(entry, dict) and entry.get("name") for entry in entries):
        raise UserError(f"{file} must have the key `runs`, a list of entries that have a name each.")
    names = [entry["name"] for entry in entries]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{file} names {repeated.pop()!r} twice.  Give each of its runs a name of its own.")
    _check_keys(file, {"name": "", **content}, *entries)
    shared = DEFAULTS | content
    shared["dataset"] = dataset or shared["dataset"]
    shared["overrides"] = shared["overrides"] | (overrides or {})
    by_entry = [_runs_of(entry, shared, folder, file) for entry in entries]
    most_seeds = max(map(len, by_entry))
    return [runs[rank] for rank in range(most_seeds) for runs in by_entry if rank < len(runs)]


def _runs_of(entry: dict, shared: dict, folder: Path, file: str | os.PathLike) -> list[Run]:
    """Make the runs of an entry, one for each seed."""
    settings = shared | entry
    if not settings["config"] or settings["iterations"] < 1 or not settings["seeds"]:
        raise UserError(f"{file}: the run {entry['name']!r} has no config, iterations or seeds.  Give it all three.")
    changes = entry.get("overrides", {})
    return [
        Run(
            name=entry["name"],
            seed=seed,
            config=settings["config"],
            dataset=settings["dataset"],
            changes=changes,
            overrides=shared["overrides"] | changes,
            iterations=settings["iterations"],
            folder=folder / entry["name"] / f"seed_{seed}",
        )
        for seed in settings["seeds"]
    ]


def _check_keys(file: str | os.PathLike, *parts: dict) -> None:
    known = {"name", *DEFAULTS}
    if unknown := {key for part in parts for key in part} - known:
        raise UserError(f"{file} has the key {unknown.pop()!r}, wanted runs or one of {', '.join(sorted(known))}.")


def run_one(run: Run, command: Sequence[str]) -> bool:
    """Train a run unless it is complete, and return whether it succeeded.  Its output goes to output.txt in its folder.

    Args:
        run: the run.
        command: the command to which the run's arguments are added, for example ["insta-rtdetr", "train"].
    """
    result = read_result(run)
    if result is not None and result.is_complete:
        return True
    logger.info(f"Run {run.name}, seed {run.seed}, in {run.folder}")
    run.folder.mkdir(parents=True, exist_ok=True)
    # The run imports the same copy of the package as this process, whether it is installed or not.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")])}
    words = [*command, *run.arguments()]
    with open(run.folder / "output.txt", "a") as output:
        code = subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, env=environment).returncode
    if code:
        logger.warning(f"Run {run.name}, seed {run.seed}, ended with exit code {code}: see {output.name}")
    return code == 0


def read_result(run: Run) -> Result | None:
    """Read the metrics of a run so far; return None if it has not been evaluated yet."""
    file = run.folder / "metrics.json"
    records = read_metrics(str(file)) if file.is_file() else []
    curves = {
        metric: [(iterations_done(record), record[metric]) for record in records if metric in record]
        for metric in METRICS
    }
    curves = {metric: points for metric, points in curves.items() if points}
    if not curves:
        return None
    is_complete = all(points[-1][0] >= run.iterations for points in curves.values())
    seconds = [record["time"] for record in records if "time" in record]
    return Result(run, curves, statistics.median(seconds) if seconds else float("nan"), _batch_size(run), is_complete)


def _batch_size(run: Run) -> int:
    """Read the batch size from the config that the training has written to its folder."""
    config = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    return config["SOLVER"]["IMS_PER_BATCH"]


def _word(value: Any) -> str:
    """Write a value as Detectron2's command line takes it, in which a YAML list is a tuple."""
    return str(tuple(value)) if isinstance(value, list) else str(value)
