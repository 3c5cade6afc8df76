#!/usr/bin/env python3
"""Write a trained model as one file; see `insta_rtdetr/export/command_line.py`."""

import sys
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from insta_rtdetr.export.command_line import main

if __name__ == "__main__":
    sys.exit(main(prog="python tools/export.py"))
