"""From the command line to a checked config.  Nothing is written until all of it has been checked."""

import argparse
import difflib
import functools
import glob
import logging
import os
import re

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from insta_rtdetr.config import add_insta_rtdetr_config
from insta_rtdetr.data import load_datasets, needs_masks
from insta_rtdetr.errors import UserError
from insta_rtdetr.zoo import PREFIX, fetch, find_config, find_published, resolve_weights

from .dataset_flag import use_dataset
from .optimizer import OPTIMIZERS

logger = logging.getLogger(__name__)
# The lowest value that makes sense, of keys that nobody else checks.
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
    "SOLVER.BASE_LR": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.EMA.RAMP_ITERS": 0,
    "SOLVER.MAX_SKIPPED_ITERS": 1,
    "SOLVER.ACCUMULATION_STEPS": 1,
    "SOLVER.EARLY_STOPPING.PATIENCE": 0,
    "TEST.EVAL_PERIOD": 0,
    "TEST.DETECTIONS_PER_IMAGE": 1,
}


def setup_cfg(config_file: str, overrides: list[str], dataset: str = "") -> CfgNode:
    """Defaults, then a yaml file, then a dataset of the user's, then KEY VALUE pairs.

    MODEL.WEIGHTS "published" becomes the file or address that it stands for; nothing is downloaded.

    Args:
        config_file: path or name, see `insta_rtdetr.zoo.find_config`; empty for the defaults.
        overrides: KEY, VALUE, ...
        dataset: what `use_dataset` takes; empty for that of the config.

    Raises:
        UserError: the file is missing or not yaml, a key does not exist, a value has another type, no such device.
        DatasetError: see `insta_rtdetr.data.find_dataset`.
    """
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    if config_file:
        config_file = find_config(config_file)
        _merge(cfg, lambda: cfg.merge_from_file(config_file), f"config file {config_file}")
    if len(overrides) % 2:
        raise UserError(f"Overrides must be KEY VALUE pairs, found {len(overrides)} words: {' '.join(overrides)}")
    if dataset:
        # They override what the dataset sets, but say whether it needs masks.
        overridden = cfg.clone()
        _merge(overridden, lambda: overridden.merge_from_list(overrides), "command line")
        use_dataset(cfg, dataset, needs_masks(overridden))
    _merge(cfg, lambda: cfg.merge_from_list(overrides), "command line")
    cfg.MODEL.WEIGHTS = resolve_weights(cfg.MODEL.WEIGHTS, config_file)
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise UserError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, wanted cpu or cuda.") from error
    return cfg


def _merge(cfg: CfgNode, merge, origin: str) -> None:
    known = _flat_keys(cfg)
    try:
        merge()
    except FileNotFoundError as error:
        raise UserError(f"In {origin}: {error.filename} (a _BASE_ file) not found.") from error
    except yaml.YAMLError as error:
        raise UserError(f"In {origin}: not valid yaml: {error}") from error
    except (KeyError, AssertionError) as error:
        raise UserError(f"In {origin}: {_explain_key(str(error), known)}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"In {origin}: {_explain_value(str(error))}") from error


def _explain_value(message: str) -> str:
    """yacs says "Type mismatch (<class 'int'> vs. <class 'str'>) with values (2 vs. many) for config key: KEY"."""
    types, values = r"\(<class '(\w+)'> vs\. <class '(\w+)'>\)", r"\((.*) vs\. (.*)\)"
    pattern = rf"Type mismatch {types} with values {values} for config key: (\S+)"
    if mismatch := re.search(pattern, message, flags=re.DOTALL):
        wanted, found, example, value, key = mismatch.groups()
        return f"{key} is {value} ({found}), wanted a value of type {wanted} such as {example}."
    return message


def _flat_keys(node: CfgNode, prefix: str = "") -> list[str]:
    keys = []
    for name, value in node.items():
        keys.append(prefix + name)
        if isinstance(value, CfgNode):
            keys += _flat_keys(value, f"{prefix}{name}.")
    return keys


def _explain_key(message: str, known: list[str]) -> str:
    """yacs says "Non-existent (config) key: KEY"; the nearest key that exists is added."""
    message = message.strip("'\"")
    head, _, key = message.rpartition(": ")
    if "xistent" not in head:
        return message
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
    return f"there is no config key {key}.  The nearest is {nearest}; all are in insta_rtdetr/config.py."


def check(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Check what can be checked before anything is built or written; set MODEL.DEVICE to what there is.

    Raises:
        UserError: names what was found, what was wanted, and the key or option to change.
    """
    _check_device(cfg, args)
    _check_numbers(cfg)
    _check_solver(cfg, max(args.num_gpus, 1) * args.num_machines)
    _check_datasets(cfg, args.eval_only)
    _check_output(cfg, args)
    _check_weights(cfg, args)
    if cfg.WANDB.ENABLED and not args.eval_only:
        from .writers import import_wandb

        import_wandb()


def start_logging(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Detectron2's default_setup (log, config.yaml, seed) for this package's log too.

    An evaluation writes to OUTPUT_DIR/inference, so that the log and the config of a training run stay as they are.
    """
    cfg = cfg.clone()
    if args.eval_only:
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "inference")
    # Detectron2 copies the file to the log, and knows no names of configs.
    config_file = find_config(args.config_file) if args.config_file else ""
    try:
        default_setup(cfg, argparse.Namespace(**{**vars(args), "config_file": config_file}))
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="insta_rtdetr")
    except OSError as error:
        raise UserError(f"OUTPUT_DIR cannot be written to: {error}.  Set another OUTPUT_DIR.") from error
    # The loop logs every error with its traceback before we can say it in one line.
    logging.getLogger("detectron2.engine.train_loop").addFilter(_is_no_user_error)
    if cfg.MODEL.DEVICE == "cpu":
        logger.info("Running on CPU" + ("" if torch.cuda.is_available() else ": no CUDA device is available"))


def _is_no_user_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


def _check_device(cfg: CfgNode, args: argparse.Namespace) -> None:
    available = torch.cuda.device_count()
    if args.num_gpus < 0 or args.num_machines < 1:
        raise UserError(f"--num-gpus is {args.num_gpus}, --num-machines {args.num_machines}, wanted at least 0 and 1.")
    if args.num_gpus > max(available, 1):
        raise UserError(f"--num-gpus {args.num_gpus}, but this machine has {available}.  Lower --num-gpus.")
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    if args.num_gpus * args.num_machines > 1 and cfg.MODEL.DEVICE == "cpu":
        raise UserError("Several processes need GPUs, found MODEL.DEVICE cpu.  Use --num-gpus 1 --num-machines 1.")


def _check_numbers(cfg: CfgNode) -> None:
    for key, lowest in LOWEST.items():
        found = functools.reduce(getattr, key.split("."), cfg)
        # Written so that NaN is refused too.
        if not found >= lowest:
            raise UserError(f"{key} is {found}, wanted at least {lowest}.")


def _check_solver(cfg: CfgNode, num_processes: int) -> None:
    solver = cfg.SOLVER
    num_parts = num_processes * solver.ACCUMULATION_STEPS
    if solver.IMS_PER_BATCH < 1 or solver.IMS_PER_BATCH % num_parts:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, wanted a multiple of {num_parts}: {num_processes} "
            f"processes with SOLVER.ACCUMULATION_STEPS {solver.ACCUMULATION_STEPS}."
        )
    if solver.EARLY_STOPPING.PATIENCE and not (cfg.TEST.EVAL_PERIOD and cfg.DATASETS.TEST):
        raise UserError("SOLVER.EARLY_STOPPING.PATIENCE needs evaluations: set TEST.EVAL_PERIOD and DATASETS.TEST.")
    choices = {
        "SOLVER.OPTIMIZER": (solver.OPTIMIZER, tuple(OPTIMIZERS)),
        "SOLVER.AMP.DTYPE": (solver.AMP.DTYPE, ("bfloat16", "float16")),
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (solver.CLIP_GRADIENTS.CLIP_TYPE, ("full_model", "norm", "value")),
    }
    for key, (found, wanted) in choices.items():
        if found not in wanted:
            raise UserError(f"{key} is {found!r}, wanted one of {', '.join(wanted)}.")


def _check_datasets(cfg: CfgNode, eval_only: bool) -> None:
    for key, names in {"DATASETS.TRAIN": cfg.DATASETS.TRAIN, "DATASETS.TEST": cfg.DATASETS.TEST}.items():
        is_needed = (key == "DATASETS.TEST") == eval_only
        if is_needed and not names:
            raise UserError(f"{key} is empty, wanted the names of registered datasets.")
        for name in names:
            if name not in DatasetCatalog.list():
                nearest = difflib.get_close_matches(name, DatasetCatalog.list(), n=1, cutoff=0.0)
                raise UserError(f"{key} names {name!r}, which is not registered.  The nearest is {nearest[0]!r}.")
    # The training set is read when the trainer is built; this one would be read after hours of training.
    for name in cfg.DATASETS.TEST:
        load_test_dataset(cfg, name)


def load_test_dataset(cfg: CfgNode, name: str) -> list[dict]:
    """The checked dataset dicts of one of DATASETS.TEST.

    Raises:
        DatasetError: see insta_rtdetr.data.check_dataset.
    """
    max_missing = cfg.DATALOADER.MAX_UNREADABLE_IMAGES
    return load_datasets(
        [name], cfg.MODEL.NUM_CLASSES, key="DATASETS.TEST", max_missing=max_missing, with_masks=needs_masks(cfg)
    )


def _check_output(cfg: CfgNode, args: argparse.Namespace) -> None:
    found = sorted(glob.glob(os.path.join(glob.escape(cfg.OUTPUT_DIR), "model_*.pth")))
    if args.eval_only or not found:
        return
    state = f"OUTPUT_DIR {cfg.OUTPUT_DIR} already holds {len(found)} checkpoints ({os.path.basename(found[-1])})"
    if not args.resume:
        raise UserError(f"{state}.  Add --resume to go on with that run, or set another OUTPUT_DIR.")
    if not os.path.isfile(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint")):
        raise UserError(
            f"{state}, but not the file last_checkpoint that names the one to --resume.  Write that name into it, or "
            "set another OUTPUT_DIR."
        )


def _check_weights(cfg: CfgNode, args: argparse.Namespace) -> None:
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        if args.eval_only:
            raise UserError(
                "--eval-only needs weights.  Add MODEL.WEIGHTS path/to/model.pth, or MODEL.WEIGHTS published."
            )
        if cfg.MODEL.STAGE == "masks" and not args.resume:
            raise UserError("MODEL.STAGE masks needs a trained detector.  Add MODEL.WEIGHTS path/to/detector.pth.")
        return
    if weights.startswith(PREFIX):
        published = find_published(weights)
        # Downloaded now and not by each process of the training at its start.
        if not args.resume:
            fetch(published)
    # Other addresses (https://, detectron2://) are looked up when they are loaded.
    if "://" not in weights and not os.path.isfile(weights):
        raise UserError(f"MODEL.WEIGHTS {weights} not found.  Give an existing file, or '' to start from scratch.")
