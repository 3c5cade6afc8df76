#!/usr/bin/env python3
"""Write a trained model as one file: images in; classes, scores, boxes and masks of the top objects out.

    python tools/export.py --config-file quickstart_MNV2_D3_256 --format onnx --output model.onnx

The file is compared with the model on images.  If what they find differs, the exit code is 1 and no file is left, as
for any bad input.
"""

import argparse
import logging
import sys
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from insta_rtdetr.errors import UserError, report, wrong_option
from insta_rtdetr.export.formats import FORMATS
from insta_rtdetr.export.run import PRECISIONS, Options, run


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        if run(parse(arguments)):
            return 0
        raise UserError("The exported network finds other objects than the model, see above.  Nothing was kept.")
    except UserError as error:
        return report(error)


def parse(arguments: list[str] | None) -> Options:
    """Parse; a wrong option is a UserError."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--config-file", required=True, help="config (name or file), or checkpoint that says which config it is of")
    option("--weights", default="", metavar="FILE", help="checkpoint (default: the published one, if it is known here)")
    option("--format", default="onnx", dest="export_format", metavar="F", help=", ".join(FORMATS) + " (default: onnx)")
    option("--precision", default="fp32", metavar="P", help=f"{', '.join(PRECISIONS)} (default: fp32)")
    option("--dynamic-batch", action="store_true", help="take any number of images at a time (default: one)")
    option("--with-postprocess", action="store_true", help="give masks of the input's pixels, not logits of a map")
    option("--size", type=int, nargs=2, metavar=("H", "W"), help="input, pixels (default: INPUT.FIXED_SIZE)")
    option("--output", default="", help="file, or OpenVINO's folder (default: named after the config, here)")
    option("--images", nargs="*", default=[], metavar="PATH", help="compare on these (default: four photographs)")
    option("--opts", nargs="*", default=[], metavar="KEY VALUE", help="change the config")
    parser.error = wrong_option("tools/export.py")
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
