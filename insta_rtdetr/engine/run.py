"""Running a training or an evaluation, with its log and its texts on the terminal."""

import logging
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng

from insta_rtdetr.atomic import write_text
from insta_rtdetr.errors import UserError

from .checks import CheckedData, RunOptions
from .evaluating import Evaluation
from .lock import folder_errors, locked
from .log import RunLog, say
from .machine import machine_errors
from .plan import TrainingPlan, make_plan
from .screen import closing_lines, evaluation_screen, training_screen
from .setup import change_cfg
from .trainer import Trainer

logger = logging.getLogger(__name__)
DRAWN = ("predictions.png", "worst.png")


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training.

    Attributes:
        checkpoint: the best checkpoint, or the last one without evaluations.
        metrics: metrics of the checkpoint on the validation set by Detectron2's names, in percent: "segm/AP",
            "bbox/AP50", ...; empty without evaluations.
        signal: number of the signal that stopped the training, such as signal.SIGINT, or None.
    """

    checkpoint: Path
    metrics: dict[str, float]
    signal: int | None = None


def train(plan: TrainingPlan) -> TrainingResult:
    """Train a model.

    Nothing is printed or written until the model is built and its weights are loaded.

    Raises:
        UserError: the config gives no model, the weights do not fit, another training runs in the folder, ...
    """
    cfg = plan.cfg
    with RunLog() as log:
        _seed(cfg)
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        trainer = Trainer(cfg, plan.data.train or None)
        # The loader has a packed copy.
        plan.data.train.clear()
        trainer.evaluation.per_class = plan.options.per_class
        trainer.resume_or_load(plan.options.resume)
        with locked(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext():
            _open_log(log, cfg, cfg.OUTPUT_DIR)
            say(training_screen(plan, trainer) + "\n")
            with machine_errors():
                trainer.train()
            if comm.is_main_process() and (lines := closing_lines(plan, trainer)):
                say(f"\n{lines}")
    return _result(trainer)


def fine_tune(
    cfg: CfgNode, dataset: str, epochs: int, output: str, resume: bool, overrides: list[object]
) -> TrainingResult:
    """Train a model from MODEL.WEIGHTS on the user's dataset.

    Args:
        cfg: config of the model; it is not changed.
        dataset: path of the dataset; see `use_dataset`.
        epochs: number of epochs.
        output: folder of the run; empty for OUTPUT_DIR.
        resume: whether to resume the run in that folder.
        overrides: config keys and values: KEY, value, ...

    Raises:
        UserError: the dataset, a key or the folder cannot be used.
    """
    if epochs < 1:
        raise UserError(f"epochs is {epochs}, wanted at least 1.")
    overrides = ["SOLVER.MAX_EPOCHS", epochs, *(["OUTPUT_DIR", output] if output else []), *overrides]
    changed = cfg.clone()
    changed.defrost()
    change_cfg(changed, overrides, dataset, origin="opts")
    options = RunOptions(dataset, resume=resume)
    return train(make_plan(changed, cfg, overrides[::2], options, name=""))


def evaluate(cfg: CfgNode, name: str, data: CheckedData, per_class: bool) -> dict:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST.

    All files go to OUTPUT_DIR/inference, so that those of a training are not changed.

    Args:
        cfg: the config.
        name: name of the config, which is displayed.
        data: the checked datasets.
        per_class: whether the table has the AP of each class.

    Returns:
        Detectron2's metrics.

    Raises:
        UserError: the config gives no model, or the weights do not fit.
    """
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    with RunLog() as log:
        _seed(cfg)
        model, checkpointer = Trainer.load_weights(cfg)
        _open_log(log, cfg, folder)
        say(evaluation_screen(name, cfg, checkpointer, data.sizes) + "\n")
        evaluation = Evaluation(cfg, Trainer.build_evaluator)
        evaluation.per_class = per_class
        with machine_errors():
            results = evaluation.run(Trainer.test, model)
        if comm.is_main_process():
            say(evaluation.table(results))
            with folder_errors():
                evaluation.draw(folder)
            drawn = [str(file) for name in DRAWN if (file := Path(folder) / name).is_file()]
            say(f"\nDrawn images: {', '.join(drawn) or 'none'}")
    return results


def _seed(cfg: CfgNode) -> None:
    """Seed the random numbers as Detectron2's default_setup does."""
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())


def _open_log(log: RunLog, cfg: CfgNode, folder: str) -> None:
    """Start log.txt with the command, the environment and the config, and write config.yaml."""
    with folder_errors():
        os.makedirs(folder, exist_ok=True)
        log.open(folder)
        if comm.is_main_process():
            write_text(Path(folder) / "config.yaml", cfg.dump())
    command = " ".join(sys.argv)
    logger.info(f"Command: {command}\nEnvironment:\n{collect_env_info()}\nConfig:\n{cfg.dump()}")


def _result(trainer: Trainer) -> TrainingResult:
    signal = trainer.stopped.signal if trainer.stopped else None
    if trainer.best is not None and trainer.best.best_iter is not None:
        return TrainingResult(trainer.best.file, trainer.best.metrics, signal)
    return TrainingResult(Path(trainer.checkpointer.get_checkpoint_file()), {}, signal)
