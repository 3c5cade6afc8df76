#!/usr/bin/env python
"""Train and evaluate.

    python train_net.py --config-file configs/... [--num-gpus N] [--resume] [KEY VALUE ...]
    python train_net.py --config-file configs/... --eval-only MODEL.WEIGHTS output/model_final.pth
    python train_net.py --config-file configs/... --dataset path/to/your/data [KEY VALUE ...]

Bad input ends in one line on stderr and exit code 1.
"""

import sys

import insta_rtdetr  # noqa: F401  (registers the models and the datasets)
from insta_rtdetr.engine import command_line


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return command_line.main(arguments, "python train_net.py", __doc__)


if __name__ == "__main__":
    sys.exit(main())
