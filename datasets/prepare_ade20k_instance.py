#!/usr/bin/env python3
"""Write ADE20K's instance annotations as COCO files: ade20k_instance_train.json and ade20k_instance_val.json.

    python datasets/prepare_ade20k_instance.py [datasets/ADEChallengeData2016]

Without a folder it is $DETECTRON2_DATASETS/ADEChallengeData2016.  It needs images/ and annotations_instance/ there.
"""

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from insta_rtdetr.data.ade20k import FOLDER, prepare
from insta_rtdetr.data.datasets import ROOT_VARIABLE
from insta_rtdetr.errors import UserError, report


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    default = Path(os.getenv(ROOT_VARIABLE, "datasets")).expanduser() / FOLDER
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=default, help=f"default: {default}")
    folder = parser.parse_args(arguments).folder
    try:
        for file in prepare(folder, progress=lambda images: tqdm(images, unit="image", disable=None)):
            sys.stdout.write(f"wrote {file}\n")
    except UserError as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
