#!/usr/bin/env python3
"""Find objects in images, folders and videos; see `insta_rtdetr/predict/command_line.py`."""

import sys
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from insta_rtdetr.predict.command_line import main

if __name__ == "__main__":
    sys.exit(main(prog="python tools/predict.py"))
