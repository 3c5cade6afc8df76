#!/usr/bin/env python3
"""Say what a checkpoint is, or write it with other class heads.

    python tools/checkpoint.py info output/model_final.pth
    python tools/checkpoint.py info output/model_final.pth --config > config.yaml
    python tools/checkpoint.py heads 50.pth vehicles.pth --keep car bus truck
    python tools/checkpoint.py heads 50.pth headless.pth --drop-all

Classes are found by name, never by position; what is written holds the weights that --eval-only would use.  Takes every
format that MODEL.WEIGHTS takes.
"""

import argparse
import sys

import insta_rtdetr  # noqa: F401  (the models say which tensors belong to classes)
from insta_rtdetr.checkpoint.contents import drop_classes, keep_classes, read_contents
from insta_rtdetr.checkpoint.convert import run
from insta_rtdetr.errors import CheckpointError


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="format, model, classes, iteration, parameters, keys")
    info.add_argument("file")
    info.add_argument("--config", action="store_true", help="write the config that the file holds, and nothing else")
    heads = commands.add_parser("heads", help="write a checkpoint with some of the classes, or without class heads")
    heads.add_argument("source")
    heads.add_argument("destination", help="Detectron2 checkpoint to write (.pth, or .pkl of numpy arrays)")
    which = heads.add_mutually_exclusive_group(required=True)
    which.add_argument("--keep", nargs="+", metavar="NAME", help="the classes to keep, in this order")
    which.add_argument("--drop-all", action="store_true", help="leave all tensors out that have rows for classes")
    chosen = parser.parse_args(arguments)
    if chosen.command == "info":
        run(lambda: config_of(chosen.file) if chosen.config else read_contents(chosen.file).summary())
    elif chosen.drop_all:
        run(lambda: drop_classes(chosen.source, chosen.destination))
    else:
        run(lambda: keep_classes(chosen.source, chosen.destination, chosen.keep))


def config_of(file: str) -> str:
    """The yaml in a checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    config = read_contents(file).config
    if not config:
        raise CheckpointError(f"{file} holds no config; only checkpoints of our trainings do.")
    return config.rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
