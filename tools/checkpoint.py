#!/usr/bin/env python3
"""Describe a checkpoint, or write another one from it; see `insta_rtdetr/checkpoint/command_line.py`."""

import sys
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import insta_rtdetr  # noqa: F401  (the models say which tensors belong to classes)
from insta_rtdetr.checkpoint.command_line import main

if __name__ == "__main__":
    sys.exit(main(prog="python tools/checkpoint.py"))
