#!/usr/bin/env python3
"""Check, convert and split datasets for instance segmentation.

    python tools/dataset.py check datasets/toy --out output/check_toy
    python tools/dataset.py convert --from labelme my_labels datasets/mine
    python tools/dataset.py split datasets/mine datasets/mine_split --train 80 --val 10 --test 10 --stratify

check exits with 0 only if the dataset can be trained on.  datasets/README.md says what each command reads and writes.
"""

import sys

from insta_rtdetr.dataset_tools.command_line import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
