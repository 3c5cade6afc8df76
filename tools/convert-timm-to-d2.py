#!/usr/bin/env python3
"""Convert timm's ResNet weights to a Detectron2 checkpoint for MODEL.WEIGHTS.

    python tools/convert-timm-to-d2.py resnet50d.pth resnet50d-d2.pth
"""

import sys
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import insta_rtdetr  # noqa: F401  (the models say which tensors belong to classes)
from insta_rtdetr.checkpoint.command_line import main

if __name__ == "__main__":
    sys.exit(main(["convert", "--from-timm", *sys.argv[1:]], "python tools/checkpoint.py"))
