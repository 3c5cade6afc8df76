#!/usr/bin/env python
"""The quick start: draw a toy dataset, fine-tune a small model on it for a short while, evaluate it, look at results.

    make demo                    (or: python demo/quickstart.py)

Each run writes into a folder of its own, output/quickstart/<time>; the toy dataset is drawn once, into output/toy.
"""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np
from coins import COINS, count_coins
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.env import seed_all_rng
from tabulate import tabulate

from insta_rtdetr.command_line import CommandParser
from insta_rtdetr.data import register_coco_folder
from insta_rtdetr.data.toy import make_toy_dataset
from insta_rtdetr.data.toy_scenes import CATEGORIES
from insta_rtdetr.engine import RunOptions, Trainer, check, setup_cfg
from insta_rtdetr.errors import UserError, report
from insta_rtdetr.evaluation.table import ap_table
from insta_rtdetr.predict import Model, Result
from insta_rtdetr.visualization import write_image

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL_NAME = "quickstart_MNV2_D3_256"
CONFIG_FILE = REPOSITORY / f"configs/toy/instance-segmentation/{MODEL_NAME}.yaml"
WEIGHTS_FILE = REPOSITORY / f"demo/weights/{MODEL_NAME}.pth"
TRAIN_IMAGES, VAL_IMAGES = 400, 60
NUM_IMAGES = 4
SCORE_THRESHOLD = 0.5
# The images are small, so drawings are enlarged to make their labels readable.
DRAWING_SCALE = 3.0
LOGGERS = ("detectron2", "fvcore", "insta_rtdetr", "py.warnings")

Metrics = dict[str, dict[str, float]]


def main(arguments: list[str] | None = None) -> int:
    """Run the quick start and return the exit code."""
    try:
        args = parse(arguments)
        check_inputs(args)
        run(args)
    except (UserError, FileExistsError) as error:
        return report(error)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.  Nothing needs to be cleaned up: start it again whenever you like.\n")
        return 130
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UserError: an option is wrong.
    """
    parser = CommandParser("python demo/quickstart.py", __doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS_FILE, metavar="FILE", help="checkpoint to start from")
    parser.add_argument("--iterations", type=int, default=40, metavar="N", help="of fine-tuning (default 40)")
    parser.add_argument(
        "--output", type=Path, default=REPOSITORY / "output/quickstart", metavar="FOLDER",
        help="each run makes a folder in it (default output/quickstart)",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the toy dataset (default output/toy)")
    parser.add_argument("--train-images", type=int, default=TRAIN_IMAGES, metavar="N", help="(default 400)")
    parser.add_argument("--val-images", type=int, default=VAL_IMAGES, metavar="N", help="(default 60)")
    parser.add_argument("--config-file", type=Path, default=CONFIG_FILE, metavar="FILE", help="of the checkpoint")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config values")
    args = parser.parse_args(arguments)
    for option in ("iterations", "train_images", "val_images"):
        if getattr(args, option) < 1:
            parser.error(f"--{option.replace('_', '-')} is {getattr(args, option)}, wanted at least 1")
    if args.data is None:
        is_usual = (args.train_images, args.val_images) == (TRAIN_IMAGES, VAL_IMAGES)
        suffix = "" if is_usual else f"_{args.train_images}_{args.val_images}"
        args.data = REPOSITORY / f"output/toy{suffix}"
    return args


def check_inputs(args: argparse.Namespace) -> None:
    """Check that everything needed exists, before anything is written.

    Raises:
        UserError: the checkpoint or scikit-image is missing.
    """
    if not args.weights.is_file():
        raise UserError(
            f"Checkpoint {args.weights} not found.  Name one with --weights, or train one: "
            f"python -m insta_rtdetr.data.toy datasets/toy && python train_net.py --config-file {shown(CONFIG_FILE)}"
        )
    load_coins()


def load_coins() -> np.ndarray:
    """Load scikit-image's photograph of 24 coins, which is part of its wheel, as RGB.

    Raises:
        UserError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise UserError("The quick start needs scikit-image.  Run: pip install scikit-image") from error
    return np.repeat(data.coins()[:, :, None], 3, axis=2)


def run(args: argparse.Namespace) -> None:
    """Run all parts, one after another."""
    seconds: dict[str, float] = {}
    with timed(seconds, "dataset"):
        say(f"1/4  Toy dataset of {args.train_images} + {args.val_images} images in {shown(args.data)}")
        register_coco_folder("toy", make_toy_dataset(args.data, args.train_images, args.val_images))
    cfg = quickstart_cfg(args)
    with logs_in(make_run_folder(cfg, args.output)):
        with timed(seconds, "training"):
            say(f"2/4  Fine-tuning {shown(args.weights)} for {args.iterations} iterations on {cfg.MODEL.DEVICE}")
            train(cfg)
        with timed(seconds, "evaluation"):
            say(f"3/4  Evaluation on {args.val_images} images")
            cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
            model = Model(cfg)
            metrics = Trainer.test(cfg, model.module)
            say(ap_table(metrics, "toy_val"))
        with timed(seconds, "images"):
            say(f"4/4  Images of what it finds (score > {SCORE_THRESHOLD})")
            images = draw_toy_images(cfg, model)
            coins_image, coins_line = draw_coins(cfg, model)
    say_summary(cfg, metrics, coins_line, seconds, [*images, coins_image])


def quickstart_cfg(args: argparse.Namespace) -> CfgNode:
    """Return the config, with the settings of a short fine-tuning."""
    iterations = args.iterations
    short = [
        "DATASETS.TRAIN", ("toy_train",), "DATASETS.TEST", ("toy_val",), "MODEL.WEIGHTS", str(args.weights),
        "SOLVER.MAX_ITER", iterations, "SOLVER.STEPS", (iterations * 3 // 4,), "SOLVER.BASE_LR", 1e-4,
        "SOLVER.WARMUP_ITERS", max(1, iterations // 10), "SOLVER.CHECKPOINT_PERIOD", iterations + 1,
        "INPUT.PLAIN_LAST_ITERS", iterations,
        # The average of the weights starts from the checkpoint; this decay makes it forget the checkpoint just by the
        # end of the run.
        "SOLVER.EMA.ENABLED", True, "SOLVER.EMA.DECAY", 0.98, "SOLVER.EMA.RAMP_ITERS", 1,
    ]  # fmt: skip
    cfg = setup_cfg(str(args.config_file), [*short, *args.opts])
    check(cfg, RunOptions())
    return cfg


def make_run_folder(cfg: CfgNode, output: Path) -> Path:
    """Make a new folder for this run, named after the time, and set OUTPUT_DIR to it."""
    start = time.strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while True:
        folder = output / (start if number == 1 else f"{start}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not output.is_dir():
                raise UserError(f"--output {output} is a file, wanted a folder.") from None
            number += 1
            continue
        cfg.OUTPUT_DIR = str(folder)
        return folder


@contextlib.contextmanager
def logs_in(folder: Path) -> Iterator[None]:
    """Send the logs and warnings of a `with` block to folder/log.txt, and only errors to the terminal."""
    file_handler = logging.FileHandler(folder / "log.txt")
    file_handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    terminal_handler = logging.StreamHandler(sys.stderr)
    # This is a filter and not a level, because the training's progress bar copies only filters to its own handler.  An
    # error in training is logged with its traceback and then raised; the filter leaves the log line out, so that the
    # error is shown once.
    terminal_handler.addFilter(lambda record: record.levelno >= logging.ERROR and not record.exc_info)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    logging.captureWarnings(True)
    try:
        for logger in loggers:
            logger.handlers, logger.propagate = [file_handler, terminal_handler], False
            logger.setLevel(logging.INFO)
        yield
    finally:
        logging.captureWarnings(False)
        for logger, handlers, level, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        file_handler.close()


def train(cfg: CfgNode) -> None:
    """Fine-tune the model, and write OUTPUT_DIR/model_final.pth."""
    cfg = cfg.clone()
    cfg.DATASETS.TEST = ()  # The evaluation comes afterwards, so that it is timed by itself.
    if cfg.SEED >= 0:
        seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()


def draw_toy_images(cfg: CfgNode, model: Model) -> list[Path]:
    """Draw the objects found in a few validation images, spread over the dataset."""
    files = [item["file_name"] for item in DatasetCatalog.get("toy_val")]
    chosen = files[:: max(1, len(files) // NUM_IMAGES)][:NUM_IMAGES]
    images = []
    for number, found in enumerate(model.predict(chosen, SCORE_THRESHOLD), start=1):
        images.append(draw_large(found, Path(cfg.OUTPUT_DIR) / f"toy_{number}.png"))
    return images


def draw_coins(cfg: CfgNode, model: Model) -> tuple[Path, str]:
    """Draw the objects found in the photograph of coins; return the file and a text with the number of coins found."""
    (found,) = model.predict(load_coins(), SCORE_THRESHOLD)
    target = draw_large(found, Path(cfg.OUTPUT_DIR) / "coins.png")
    is_coin = found.class_ids == CATEGORIES.index("coin")
    num_coins = count_coins(found.masks[is_coin])
    others = len(found) - num_coins
    return target, f"{num_coins} of {len(COINS)}" + (f" (and {others} other detections)" if others else "")


def draw_large(found: Result, target: Path) -> Path:
    """Write the drawn image, enlarged, and return the file."""
    write_image(found.draw(DRAWING_SCALE), target)
    return target


def say_summary(
    cfg: CfgNode, metrics: Metrics, coins_line: str, seconds: dict[str, float], images: list[Path]
) -> None:
    """Print the results of the run in a few lines."""
    rows = [
        ["Mask AP on the toy dataset", f"{metrics['segm']['AP']:.1f}"],
        ["Coins found in the photograph", coins_line],
        ["Seconds", ", ".join(f"{part} {value:.0f}" for part, value in seconds.items())],
        ["Images", "\n".join(shown(image) for image in images)],
        ["Trained model", shown(Path(cfg.OUTPUT_DIR) / "model_final.pth")],
        ["Log", shown(Path(cfg.OUTPUT_DIR) / "log.txt")],
    ]
    say("\n" + tabulate(rows, tablefmt="plain", disable_numparse=True))


@contextlib.contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Record the seconds that a `with` block took."""
    start = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - start


def say(text: str) -> None:
    """Write a text to the terminal, and flush it in case the output is a file."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def shown(path: Path) -> str:
    """Return a path in its shortest form that can be copied into the next command."""
    path = path.absolute()
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
