#!/usr/bin/env python3
"""Convert a published checkpoint of a known model, or one of our trainings, to a small Detectron2 checkpoint.

    python tools/convert-checkpoint.py 50.pth insta_rtdetr_R50vd_D6_640.pth
"""

import sys
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import insta_rtdetr  # noqa: F401  (the models say which tensors belong to classes)
from insta_rtdetr.checkpoint.command_line import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]], "python tools/checkpoint.py"))
