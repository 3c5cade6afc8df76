"""Lists of trainings that differ in a few config keys: run one after the other, and go on where they were ended.

A list is a YAML file.  What stands at its top holds for all runs, and each run may say it otherwise:

    config: insta_rtdetr_MNV2_D3_320      # file or name
    dataset: path/to/nuclei               # as of --dataset; "" for that of the config
    iterations: 250
    seeds: [42, 43, 44]
    overrides: {INPUT.MIN_SIZE_TEST: 224} # those of a run are added to these
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

# What a list may say beside `runs`, with the values where it does not.
DEFAULTS = {"config": "", "dataset": "", "iterations": 0, "seeds": [42], "overrides": {}}
METRICS = ("segm/AP", "bbox/AP")
_ROOT = str(Path(__file__).resolve().parents[3])


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a list.

    Attributes:
        name: of what is tried.
        changes: the config keys and values that belong to the name, beside those of the whole list.
        overrides: all config keys and values that are set, `changes` included.
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
        """The words after `insta-rtdetr train`; a run that has a checkpoint goes on from it."""
        # Of a dataset of the user's, training starts from published weights, unless it is told from what.
        settings = {"MODEL.WEIGHTS": setup_cfg(self.config, []).MODEL.WEIGHTS} | self.overrides | {
            "SOLVER.MAX_ITER": self.iterations, "SEED": self.seed, "OUTPUT_DIR": str(self.folder)
        }  # fmt: skip
        words = ["--config-file", self.config]
        words += ["--dataset", self.dataset] if self.dataset else []
        words += ["--resume"] if (self.folder / "last_checkpoint").is_file() else []
        return words + [_word(part) for setting in settings.items() for part in setting]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run has measured.

    Attributes:
        curves: metric -> (iterations done, AP) of every evaluation, in order.
        seconds: median wall time of an iteration.
        batch_size: images of an iteration.
        is_complete: whether the evaluation after the last iteration is among them.
    """

    run: Run
    curves: dict[str, list[tuple[int, float]]]
    seconds: float
    batch_size: int
    is_complete: bool

    @property
    def main_metric(self) -> str:
        """Mask AP, or box AP of a model without masks."""
        return next(metric for metric in METRICS if metric in self.curves)

    def final(self, metric: str) -> float:
        """The last value of a metric."""
        return self.curves[metric][-1][1]


def read_list(
    file: str | os.PathLike, folder: Path, dataset: str = "", overrides: dict[str, Any] | None = None
) -> list[Run]:
    """The runs of a list, those of everybody's first seed first, so that a comparison is there early.

    Args:
        file: the YAML file.
        folder: where each run gets a folder.
        dataset: in place of the list's.
        overrides: config keys and values for all runs beside those of the list.

    Raises:
        UserError: the file is missing or not such a list.
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
    """One run for each seed of an entry."""
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
    """Train a run unless it is complete; whether it ended well.  What it says goes to output.txt in its folder.

    Args:
        command: what comes before the run's arguments, for example ["insta-rtdetr", "train"].
    """
    result = read_result(run)
    if result is not None and result.is_complete:
        return True
    logger.info(f"Run {run.name}, seed {run.seed}, in {run.folder}")
    run.folder.mkdir(parents=True, exist_ok=True)
    # The code that trains is the code that reports, installed or not.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")])}
    words = [*command, *run.arguments()]
    with open(run.folder / "output.txt", "a") as output:
        code = subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, env=environment).returncode
    if code:
        logger.warning(f"Run {run.name}, seed {run.seed}, ended with exit code {code}: see {output.name}")
    return code == 0


def read_result(run: Run) -> Result | None:
    """What a run has measured so far; None without an evaluation."""
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
    """Of the config that the training has written to its folder."""
    config = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    return config["SOLVER"]["IMS_PER_BATCH"]


def _word(value: Any) -> str:
    """A value as Detectron2's command line takes it: a list of YAML is a tuple there."""
    return str(tuple(value)) if isinstance(value, list) else str(value)
