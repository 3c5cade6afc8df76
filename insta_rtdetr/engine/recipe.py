"""Schedules in epochs, and the recipe for fine-tuning on the user's dataset."""

import math
from collections.abc import Collection

from detectron2.config import CfgNode

# The keys that --dataset sets, chosen for some hundred to some thousand images.
RECIPE = {
    "SOLVER.MAX_EPOCHS": 50,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "SOLVER.WARMUP_ITERS": 500,
    "SOLVER.EMA.ENABLED": True,
    "SOLVER.EMA.DECAY": 0.9999,
    "SOLVER.EMA.RAMP_ITERS": 2000,
    "SOLVER.EARLY_STOPPING.PATIENCE": 15,
}
# Largest fractions of a run that the moving average reaches back over, and that the warm-up takes.
EMA_SHARE = 0.1
WARMUP_SHARE = 0.05


def use_recipe(cfg: CfgNode, given: Collection[str]) -> None:
    """Set the recipe for the user's dataset, which leaves learning rate, batch size and augmentation as they are.

    Args:
        cfg: the config, which is changed.
        given: keys that the user has set, which are not changed.
    """
    recipe = dict(RECIPE)
    if not cfg.DATASETS.TEST or ("TEST.EVAL_PERIOD" in given and not cfg.TEST.EVAL_PERIOD):
        del recipe["SOLVER.EARLY_STOPPING.PATIENCE"]
    set_keys(cfg, recipe, given)


def set_schedule(cfg: CfgNode, file_iterations: int, num_images: int, given: Collection[str]) -> None:
    """Set all keys that count iterations from SOLVER.MAX_EPOCHS.

    SOLVER.STEPS and INPUT.PLAIN_LAST_ITERS are scaled with the length of the run.  Warm-up and moving average are
    shortened if they are too long for the run.  Every epoch ends with an evaluation and a checkpoint.

    Args:
        cfg: the config, which is changed.
        file_iterations: SOLVER.MAX_ITER of the config file, which its other keys are made for.
        num_images: images of an epoch.
        given: keys that the user has set, which are not changed.
    """
    solver = cfg.SOLVER
    epoch = iterations_per_epoch(cfg, num_images)
    total = solver.MAX_ITER if "SOLVER.MAX_ITER" in given else solver.MAX_EPOCHS * epoch
    share = total / file_iterations
    reach = max(round(total * EMA_SHARE), 1)
    schedule = {
        "SOLVER.MAX_ITER": total,
        "SOLVER.WARMUP_ITERS": min(solver.WARMUP_ITERS, round(total * WARMUP_SHARE)),
        "SOLVER.EMA.DECAY": min(solver.EMA.DECAY, round(1 - 1 / reach, 5)),
        "SOLVER.EMA.RAMP_ITERS": min(solver.EMA.RAMP_ITERS, reach),
        "SOLVER.CHECKPOINT_PERIOD": epoch,
        "TEST.EVAL_PERIOD": epoch,
        "INPUT.PLAIN_LAST_ITERS": round(cfg.INPUT.PLAIN_LAST_ITERS * share),
    }
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        schedule["SOLVER.STEPS"] = tuple(round(step * share) for step in solver.STEPS)
    set_keys(cfg, schedule, given)


def iterations_per_epoch(cfg: CfgNode, num_images: int) -> int:
    """Return the number of iterations of an epoch, rounded up."""
    return math.ceil(num_images / cfg.SOLVER.IMS_PER_BATCH)


def set_keys(cfg: CfgNode, values: dict[str, object], given: Collection[str]) -> None:
    """Set config keys except those that are given."""
    for key, value in values.items():
        if key not in given:
            cfg.merge_from_list([key, value])
