"""Makes the trainings of a Python process short: DOCS_ITERATIONS says how many iterations.

Python imports this module when it starts, if its folder is in PYTHONPATH.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType

VARIABLE = "DOCS_ITERATIONS"
MODULE = "insta_rtdetr.engine.run"
NUM_IMAGES = 2


def shorten(train: Callable, iterations: int) -> Callable:
    """Return `insta_rtdetr.engine.train`, with at most so many iterations of two images."""

    def train_shortly(plan):
        cfg = plan.cfg
        cfg.defrost()
        cfg.SOLVER.MAX_ITER = min(cfg.SOLVER.MAX_ITER, iterations)
        cfg.SOLVER.IMS_PER_BATCH = min(cfg.SOLVER.IMS_PER_BATCH, NUM_IMAGES)
        cfg.SOLVER.CHECKPOINT_PERIOD = min(cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.MAX_ITER)
        cfg.TEST.EVAL_PERIOD = min(cfg.TEST.EVAL_PERIOD, cfg.SOLVER.MAX_ITER)
        cfg.SOLVER.STEPS = tuple(step for step in cfg.SOLVER.STEPS if step < cfg.SOLVER.MAX_ITER)
        cfg.SOLVER.WARMUP_ITERS = min(cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER - 1)
        cfg.DATALOADER.NUM_WORKERS = 0
        return train(plan)

    return train_shortly


class Finder(importlib.abc.MetaPathFinder):
    """Finds the module as Python would, and shortens its function once it is loaded."""

    def find_spec(self, name: str, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        """Return the module's spec with a loader that shortens; None for other modules."""
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def load_and_shorten(module: ModuleType) -> None:
            load(module)
            module.train = shorten(module.train, int(os.environ[VARIABLE]))

        spec.loader.exec_module = load_and_shorten
        return spec


if VARIABLE in os.environ:
    sys.meta_path.insert(0, Finder())
