"""Checks of the config and the data before anything is built, printed or written."""

import difflib
import functools
import glob
import os
from collections.abc import Collection
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from insta_rtdetr.errors import UserError
from insta_rtdetr.views import views_of_config
from insta_rtdetr.zoo import PREFIX, fetch, find_published

from .data import load_test_dataset, load_train_dataset
from .lock import check_unlocked
from .optimizer import OPTIMIZERS
from .recipe import set_schedule

# The lowest valid values of keys that are checked nowhere else.
LOWEST = {
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.MAX_UNREADABLE_IMAGES": 0,
    "INPUT.PLAIN_LAST_ITERS": 0,
    "MODEL.DENOISING.NUM_QUERIES": 0,
    "MODEL.MATCHER.NUM_POINTS": 0,
    "MODEL.LOSS.NUM_POINTS": 0,
    "MODEL.LOSS.DENSE_POSITIONS": 0,
    "MODEL.LOSS.ONE_TO_MANY": 1,
    "MODEL.DECODER.NUM_ONE_TO_MANY_QUERIES": 0,
    "MODEL.LOSS.OVERSAMPLE_RATIO": 1,
    "SOLVER.MAX_ITER": 1,
    "SOLVER.MAX_EPOCHS": 0,
    "SOLVER.KEEP_CHECKPOINTS": 0,
    "SOLVER.BASE_LR": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.EMA.RAMP_ITERS": 0,
    "SOLVER.MAX_SKIPPED_ITERS": 1,
    "SOLVER.ACCUMULATION_STEPS": 1,
    "SOLVER.EARLY_STOPPING.PATIENCE": 0,
    "TEST.EVAL_PERIOD": 0,
    "TEST.DETECTIONS_PER_IMAGE": 1,
    "TEST.TILE.SIZE": 0,
    "TEST.TILE.OVERLAP": 0,
    "TEST.AUG.MAX_SIZE": 1,
}


@dataclass(frozen=True)
class RunOptions:
    """The options of a run that are not in its config.

    Attributes:
        dataset: path of the user's dataset; empty for the datasets of the config.
        eval_only: whether MODEL.WEIGHTS are evaluated and nothing is trained.
        resume: whether the training in OUTPUT_DIR is resumed.
        per_class: whether evaluations show the AP of each class.
        num_gpus: GPUs of each machine.
        num_machines: number of machines.
    """

    dataset: str = ""
    eval_only: bool = False
    resume: bool = False
    per_class: bool = False
    num_gpus: int = 1
    num_machines: int = 1

    @property
    def num_processes(self) -> int:
        """Return the number of processes on all machines."""
        return max(self.num_gpus, 1) * self.num_machines


@dataclass(frozen=True)
class CheckedData:
    """The datasets of a run.

    Attributes:
        train: Detectron2's dataset dicts of DATASETS.TRAIN; empty in an evaluation.
        sizes: dataset name -> number of images and number of objects.
    """

    train: list[dict]
    sizes: dict[str, tuple[int, int]]


def check(
    cfg: CfgNode, options: RunOptions, file_cfg: CfgNode | None = None, given: Collection[str] = ()
) -> CheckedData:
    """Check everything that can be checked before anything is built or written.

    MODEL.DEVICE becomes cpu if there is no GPU, and SOLVER.MAX_EPOCHS is converted to iterations.

    Args:
        cfg: the config, which is changed.
        options: options that are not in the config.
        file_cfg: the config as its file has it; by default `cfg`.
        given: keys that the user has set, which SOLVER.MAX_EPOCHS does not change.

    Raises:
        UserError: a check failed; the message names the key or option to change.
    """
    _check_device(cfg, options)
    _check_numbers(cfg)
    _check_solver(cfg, options.num_processes)
    _check_output(cfg, options)
    _check_weights(cfg, options)
    if cfg.WANDB.ENABLED and not options.eval_only:
        from .writers import import_wandb

        import_wandb()
    data = _check_datasets(cfg, options.eval_only)
    if cfg.SOLVER.MAX_EPOCHS and not options.eval_only:
        set_schedule(cfg, (file_cfg or cfg).SOLVER.MAX_ITER, len(data.train), given)
    _check_early_stopping(cfg)
    return data


def _check_device(cfg: CfgNode, options: RunOptions) -> None:
    available = torch.cuda.device_count()
    if options.num_gpus < 0 or options.num_machines < 1:
        found = f"--num-gpus is {options.num_gpus}, --num-machines {options.num_machines}"
        raise UserError(f"{found}, wanted at least 0 and 1.")
    if options.num_gpus > max(available, 1):
        raise UserError(f"--num-gpus {options.num_gpus}, but this machine has {available}.  Lower --num-gpus.")
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    if options.num_gpus * options.num_machines > 1 and cfg.MODEL.DEVICE == "cpu":
        raise UserError("Several processes need GPUs, found MODEL.DEVICE cpu.  Use --num-gpus 1 --num-machines 1.")


def _check_numbers(cfg: CfgNode) -> None:
    for key, lowest in LOWEST.items():
        found = functools.reduce(getattr, key.split("."), cfg)
        # In this form, not `found < lowest`, NaN is refused too.
        if not found >= lowest:
            raise UserError(f"{key} is {found}, wanted at least {lowest}.")
    views_of_config(cfg)


def _check_solver(cfg: CfgNode, num_processes: int) -> None:
    solver = cfg.SOLVER
    num_parts = num_processes * solver.ACCUMULATION_STEPS
    if solver.IMS_PER_BATCH < 1 or solver.IMS_PER_BATCH % num_parts:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, wanted a multiple of {num_parts}: {num_processes} "
            f"processes with SOLVER.ACCUMULATION_STEPS {solver.ACCUMULATION_STEPS}."
        )
    choices = {
        "SOLVER.OPTIMIZER": (solver.OPTIMIZER, tuple(OPTIMIZERS)),
        "SOLVER.AMP.DTYPE": (solver.AMP.DTYPE, ("bfloat16", "float16")),
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (solver.CLIP_GRADIENTS.CLIP_TYPE, ("full_model", "norm", "value")),
    }
    for key, (found, wanted) in choices.items():
        if found not in wanted:
            raise UserError(f"{key} is {found!r}, wanted one of {', '.join(wanted)}.")


def _check_early_stopping(cfg: CfgNode) -> None:
    if cfg.SOLVER.EARLY_STOPPING.PATIENCE and not (cfg.TEST.EVAL_PERIOD and cfg.DATASETS.TEST):
        raise UserError("SOLVER.EARLY_STOPPING.PATIENCE needs evaluations: set TEST.EVAL_PERIOD and DATASETS.TEST.")


def _check_datasets(cfg: CfgNode, eval_only: bool) -> CheckedData:
    for key, names in {"DATASETS.TRAIN": cfg.DATASETS.TRAIN, "DATASETS.TEST": cfg.DATASETS.TEST}.items():
        is_needed = (key == "DATASETS.TEST") == eval_only
        if is_needed and not names:
            raise UserError(f"{key} is empty, wanted the names of registered datasets.")
        for name in names:
            if name not in DatasetCatalog.list():
                nearest = difflib.get_close_matches(name, DatasetCatalog.list(), n=1, cutoff=0.0)
                raise UserError(f"{key} names {name!r}, which is not registered.  The nearest is {nearest[0]!r}.")
    train = [] if eval_only else load_train_dataset(cfg)
    sizes = {} if eval_only else {", ".join(cfg.DATASETS.TRAIN): _count(train)}
    sizes |= {name: _count(load_test_dataset(cfg, name)) for name in cfg.DATASETS.TEST}
    return CheckedData(train, sizes)


def _count(dataset: list[dict]) -> tuple[int, int]:
    return len(dataset), sum(len(item.get("annotations", [])) for item in dataset)


def _check_output(cfg: CfgNode, options: RunOptions) -> None:
    _check_writable(os.path.join(cfg.OUTPUT_DIR, "inference" if options.eval_only else ""))
    if options.eval_only:
        return
    check_unlocked(cfg.OUTPUT_DIR)
    found = sorted(glob.glob(os.path.join(glob.escape(cfg.OUTPUT_DIR), "model_*.pth")))
    if not found:
        return
    state = f"OUTPUT_DIR {cfg.OUTPUT_DIR} already holds {len(found)} checkpoints ({os.path.basename(found[-1])})"
    if not options.resume:
        raise UserError(f"{state}.  Add --resume to go on with that run, or set another OUTPUT_DIR.")


def _check_writable(folder: str) -> None:
    """Check that a folder can be made or written to.

    Raises:
        UserError: it cannot, or a part of the path is a file.
    """
    existing = os.path.abspath(folder)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not (os.path.isdir(existing) and os.access(existing, os.W_OK)):
        reason = "cannot be written to" if os.path.isdir(existing) else "is no folder"
        raise UserError(f"OUTPUT_DIR {folder}: {existing} {reason}.  Set another OUTPUT_DIR.")


def _check_weights(cfg: CfgNode, options: RunOptions) -> None:
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        if options.eval_only:
            raise UserError(
                "--eval-only needs weights.  Add MODEL.WEIGHTS path/to/model.pth, or MODEL.WEIGHTS published."
            )
        if cfg.MODEL.STAGE == "masks" and not options.resume:
            raise UserError("MODEL.STAGE masks needs a trained detector.  Add MODEL.WEIGHTS path/to/detector.pth.")
        return
    if weights.startswith(PREFIX):
        published = find_published(weights)
        # Downloaded now, so that the processes of the training do not each have to.
        if not options.resume:
            fetch(published)
    # Other addresses (https://, detectron2://) are looked up when they are loaded.
    if "://" not in weights and not os.path.isfile(weights):
        raise UserError(f"MODEL.WEIGHTS {weights} not found.  Give an existing file, or '' to start from scratch.")
