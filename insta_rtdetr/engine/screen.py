"""The texts on the terminal when a run begins and when it ends."""

import os
import shutil
import sys
import textwrap
from pathlib import Path

import torch
from detectron2.config import CfgNode

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.data.class_names import dataset_class_names
from insta_rtdetr.data.layouts import counted
from insta_rtdetr.views import views_of_config

from .plan import TrainingPlan
from .setup import flat_values
from .stage import best_metric, count_parameters, metric_name
from .trainer import Trainer

MAX_WIDTH = 120  # columns; fewer if the terminal is narrower
MAX_CHANGES = 16  # keys that the first screen lists
# Keys that other rows of the screen show.
SHOWN = (
    "MODEL.WEIGHTS", "MODEL.DEVICE", "OUTPUT_DIR", "DATASETS.TRAIN", "DATASETS.TEST", "VERSION",
    "SOLVER.MAX_EPOCHS", "SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "TEST.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.EARLY_STOPPING.PATIENCE", "SOLVER.BASE_LR", "SOLVER.BACKBONE_MULTIPLIER", "SOLVER.LR_SCHEDULER_NAME",
    "SOLVER.STEPS", "SOLVER.WARMUP_ITERS", "MODEL.NUM_CLASSES", "MODEL.ROI_HEADS.NUM_CLASSES",
    "MODEL.RETINANET.NUM_CLASSES",
)  # fmt: skip
SCHEDULES = {"WarmupMultiStepLR": "steps", "WarmupCosineLR": "cosine"}


def training_screen(plan: TrainingPlan, trainer: Trainer) -> str:
    """Describe a training that begins, on one screen."""
    cfg = plan.cfg
    trained, frozen = count_parameters(trainer.raw_model)
    stage = "" if cfg.MODEL.STAGE == "joint" else f", stage {cfg.MODEL.STAGE}"
    name = f"{plan.name}, " if plan.name else ""
    rows = {
        "model": f"{name}{cfg.MODEL.META_ARCHITECTURE}{stage}: {trained:,} parameters trained, {frozen:,} frozen",
        "weights": _weights(trainer),
        "training": dataset_line(plan.data.sizes, ", ".join(cfg.DATASETS.TRAIN)),
        "validation": "\n".join(_validation(plan, name) for name in cfg.DATASETS.TEST) or "none",
        "schedule": _schedule(cfg, trainer),
        "learning rate": _learning_rate(cfg),
        "device": _device(cfg, trainer),
        "output": f"{cfg.OUTPUT_DIR} (log.txt, config.yaml, metrics.json, checkpoints, drawn images)",
        "changed": _changes(plan),
    }
    return table(rows)


def evaluation_screen(name: str, cfg: CfgNode, checkpointer: Checkpointer, sizes: dict[str, tuple[int, int]]) -> str:
    """Describe an evaluation that begins, in a few lines."""
    return table(
        {
            "model": ", ".join(part for part in (name, cfg.MODEL.META_ARCHITECTURE) if part),
            "weights": "\n".join(checkpointer.summary),
            "dataset": "\n".join(dataset_line(sizes, name) for name in cfg.DATASETS.TEST),
            **_views(cfg),
            "device": device_name(torch.device(cfg.MODEL.DEVICE)),
            "output": os.path.join(cfg.OUTPUT_DIR, "inference"),
        }
    )


def _views(cfg: CfgNode) -> dict[str, str]:
    """Return the row that names the tiles and the augmented views, if there are any."""
    views = views_of_config(cfg)
    lines = [str(one) for one in (views.tiling, views.augmentation) if one]
    return {"views": "\n".join(lines)} if lines else {}


def table(rows: dict[str, str]) -> str:
    """Format rows of a name and a text, which is wrapped."""
    width = max(map(len, rows)) + 2
    columns = min(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, MAX_WIDTH)
    # Paths are not broken.
    wrapper = textwrap.TextWrapper(max(columns - width, 40), break_long_words=False, break_on_hyphens=False)
    lines = []
    for name, text in rows.items():
        wrapped = [part for line in text.splitlines() for part in wrapper.wrap(line)]
        lines += [f"{label:{width}}{part}" for label, part in zip([name] + [""] * len(wrapped), wrapped)]
    return "\n".join(lines)


def dataset_line(sizes: dict[str, tuple[int, int]], name: str) -> str:
    """Count the images, objects and classes of a dataset, in one line."""
    num_images, num_objects = sizes[name]
    classes = dataset_class_names(name.split(", ")[0])
    shown = f" ({textwrap.shorten(', '.join(classes), 60, placeholder=' ...')})" if classes else ""
    counts = counted(num_images, "image"), counted(num_objects, "object"), counted(len(classes), "class", "classes")
    return f"{name}: {', '.join(counts)}{shown}"


def _validation(plan: TrainingPlan, name: str) -> str:
    is_trained_on = name in plan.cfg.DATASETS.TRAIN
    warning = ", which are also trained on: there is no split for validation" if is_trained_on else ""
    return dataset_line(plan.data.sizes, name) + warning


def device_name(device: torch.device) -> str:
    """Name a device: the GPU's product name, or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({counted(torch.get_num_threads(), 'thread')})" if device.type == "cpu" else str(device)


def _weights(trainer: Trainer) -> str:
    if trainer.start_iter:
        done = f"after iteration {trainer.start_iter}, epoch {trainer.start_iter / trainer.epoch:.3g}"
        lines = [f"{trainer.checkpointer.file}: the run goes on {done}", *trainer.checkpointer.damaged]
        return "\n".join(lines)
    return "\n".join(trainer.checkpointer.summary) or "none: from scratch"


def _schedule(cfg: CfgNode, trainer: Trainer) -> str:
    solver = cfg.SOLVER
    epochs = f"{counted(trainer.max_iter / trainer.epoch, 'epoch')} = {counted(trainer.max_iter, 'iteration')}"
    parts = f" in {solver.ACCUMULATION_STEPS} parts" if solver.ACCUMULATION_STEPS > 1 else ""
    text = f"{epochs} of {counted(solver.IMS_PER_BATCH, 'image')}{parts}"
    if cfg.DATASETS.TEST and cfg.TEST.EVAL_PERIOD:
        text += f", evaluated every {_period(cfg.TEST.EVAL_PERIOD, trainer)}"
    if solver.EARLY_STOPPING.PATIENCE:
        metric = metric_name(best_metric(cfg))
        text += f", stops after {solver.EARLY_STOPPING.PATIENCE} evaluations without a better {metric}"
    return text


def _period(iterations: int, trainer: Trainer) -> str:
    return "epoch" if iterations == trainer.epoch else counted(iterations, "iteration")


def _learning_rate(cfg: CfgNode) -> str:
    solver = cfg.SOLVER
    shape = SCHEDULES.get(solver.LR_SCHEDULER_NAME, solver.LR_SCHEDULER_NAME)
    if shape == "steps":
        steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
        shape = f"times {solver.GAMMA} after {', '.join(map(str, steps))}" if steps else "constant"
    warm_up = f", warm-up until iteration {solver.WARMUP_ITERS}" if solver.WARMUP_ITERS else ""
    return f"{solver.BASE_LR:g} (backbone {solver.BASE_LR * solver.BACKBONE_MULTIPLIER:g}), {shape}{warm_up}"


def _device(cfg: CfgNode, trainer: Trainer) -> str:
    dtype = trainer.step.amp_dtype
    precision = f"mixed precision ({str(dtype).removeprefix('torch.')})" if dtype else "float32"
    if cfg.SOLVER.AMP.ENABLED and not dtype:
        precision += " (SOLVER.AMP.ENABLED is for GPUs; SOLVER.AMP.ON_CPU for this)"
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    count = f"{processes} processes, " if processes > 1 else ""
    return f"{count}{device_name(trainer.step.device)}, {precision}"


def _changes(plan: TrainingPlan) -> str:
    """List the keys that differ from the config file, those that the user has set first."""
    before, after = flat_values(plan.file_cfg), flat_values(plan.cfg)
    changed = [
        key
        for key, value in after.items()
        if not isinstance(value, CfgNode) and before.get(key) != value and (key in plan.given or key not in SHOWN)
    ]
    order = list(plan.given)
    changed.sort(key=lambda key: order.index(key) if key in order else len(order))
    texts = [f"{key} {after[key]}" for key in changed]
    more = f"; {len(texts) - MAX_CHANGES} more in config.yaml" if len(texts) > MAX_CHANGES else ""
    return "; ".join(texts[:MAX_CHANGES]) + more or "nothing"


def closing_lines(plan: TrainingPlan, trainer: Trainer) -> str:
    """Name the best checkpoint and the commands that use it; return nothing if there is no checkpoint to use yet."""
    folder, best = Path(plan.cfg.OUTPUT_DIR), trainer.best
    if best is not None and best.best_iter is not None:
        checkpoint, epochs = best.file, min(best.best_iter + 1, trainer.max_iter) / trainer.epoch
        lines = [f"Best checkpoint, after epoch {epochs:.3g} ({_headline(best.metrics)}): {checkpoint}"]
    elif (checkpoint := folder / "model_final.pth").is_file():
        lines = [f"Trained weights: {checkpoint}"]
    else:
        return ""
    dataset = f" --dataset {plan.options.dataset}" if plan.options.dataset else ""
    # If the package is not installed, the command is run as a module.
    program = "insta-rtdetr" if Path(sys.argv[0]).name == "insta-rtdetr" else "python -m insta_rtdetr"
    lines += [
        f"  evaluate  {program} evaluate --config-file {folder / 'config.yaml'}{dataset} --weights {checkpoint}",
        f"  predict   {program} predict --model {checkpoint} --input IMAGE_OR_FOLDER --output found",
        f"  export    {program} export --model {checkpoint} --format onnx --output model.onnx",
    ]
    return "\n".join(lines)


def _headline(metrics: dict[str, float]) -> str:
    shown = {name: value for name, value in metrics.items() if name.split("/")[-1] in ("AP", "AP50")}
    order = sorted(shown, key=lambda name: ("bbox/" in name, name))
    return ", ".join(f"{metric_name(name)} {shown[name]:.1f}" for name in order)
