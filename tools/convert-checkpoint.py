#!/usr/bin/env python3
"""Turn a checkpoint of the original Insta-RT-DETR or RT-DETR into a Detectron2 checkpoint.

    python tools/convert-checkpoint.py 50.pth insta_rtdetr_R50vd_D6_640.pth

Not needed for MODEL.WEIGHTS, which takes the original files as they are; the result holds the averaged weights alone,
without the optimizer, and any Detectron2 tool reads it.
"""

import argparse

from insta_rtdetr.checkpoint.convert import convert, run


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="checkpoint of the original")
    parser.add_argument("destination", help="Detectron2 checkpoint to write (.pth, or .pkl of numpy arrays)")
    arguments = parser.parse_args()
    run(lambda: convert(arguments.source, arguments.destination))


if __name__ == "__main__":
    main()
