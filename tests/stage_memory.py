"""Peak memory and seconds an image of the stages of a training (MODEL.STAGE), each in a process of its own.

    python -m tests.stage_memory [--batch-size N] [--side PIXELS] [--objects N] [--stage S] ... CONFIG [KEY VALUE ...]

Steps of the optimizer with EMA on drawn images.  On CPU the memory is the resident set: that of the whole process at
its peak, and how much of it came after the model, its optimizer and its average were there.  On a GPU it is what
PyTorch allocated.
"""

import argparse
import itertools
import multiprocessing
import statistics
import sys
import time

import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from insta_rtdetr.benchmark.stages import peak_memory, reset_peak_memory
from insta_rtdetr.data import needs_masks
from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.engine.ema import ModelEMA
from insta_rtdetr.engine.optimizer import build_optimizer
from insta_rtdetr.engine.step import OptimizationStep
from insta_rtdetr.modeling.meta_arch.base import STAGES
from tests.tiny import training_input

NUM_STEPS = 3


def main() -> None:
    """Print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--stage", action="append", choices=STAGES, help="may be given again; default: all")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    for stage in args.stage or STAGES:
        # A resident set never shrinks: each stage needs a process that has seen nothing else.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            sys.stdout.write(pool.apply(measure, (stage, args)) + "\n")
            sys.stdout.flush()


def measure(stage: str, args: argparse.Namespace) -> str:
    """Train some steps; a line on what they took."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = ["MODEL.DEVICE", device, "INPUT.MULTI_SCALE", "()", "MODEL.WEIGHTS", "", "MODEL.STAGE", stage]
    settings += ["MODEL.TIMM.PRETRAINED", "False"]
    cfg = setup_cfg(args.config, [*settings, *args.opts])
    model = build_model(cfg).to(memory_format=torch.channels_last)
    step, ema = _step(cfg, model, args), ModelEMA(model, 0.999, 100)
    before, _ = peak_memory(model.device)
    reset_peak_memory(model.device)
    times = []
    with EventStorage():
        for _ in range(NUM_STEPS):
            started = time.perf_counter()
            step.run_step()
            ema.update(model)
            times.append((time.perf_counter() - started) / args.batch_size)
    peak, _ = peak_memory(model.device)
    # The first step is slower: it fills caches.
    seconds = statistics.median(times[1:])
    return f"{stage}: {peak:.0f} MiB, {peak - before:.0f} of them in the steps; {seconds:.2f} s an image"


def _step(cfg, model, args: argparse.Namespace) -> OptimizationStep:
    batch = [training_input(args.objects, args.side, args.side, seed) for seed in range(args.batch_size)]
    for item in batch:
        item["instances"].gt_classes %= cfg.MODEL.NUM_CLASSES
        if not needs_masks(cfg):
            item["instances"].remove("gt_masks")
    return OptimizationStep(model, itertools.repeat(batch), build_optimizer(cfg, model))


if __name__ == "__main__":
    main()
