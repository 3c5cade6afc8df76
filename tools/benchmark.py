#!/usr/bin/env python3
"""Time a model from image to COCO RLE, end to end and by stage; count its parameters and GFLOPs.

    python tools/benchmark.py --config-file configs/coco/instance-segmentation/insta_rtdetr_R50vd_D6_640.yaml

Works with every Detectron2 instance-segmentation model; several are also put side by side, a line each.  Bad input
ends in one line on stderr and exit code 1.
"""

import argparse
import sys

from insta_rtdetr.benchmark.backends import BACKENDS
from insta_rtdetr.benchmark.options import AUTOCAST_DTYPES, Options
from insta_rtdetr.benchmark.run import run
from insta_rtdetr.engine.dataset_flag import DATASET_HELP
from insta_rtdetr.errors import UserError, report, wrong_option


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        run(parse(arguments))
    except UserError as error:
        return report(error)
    return 0


def parse(arguments: list[str] | None) -> list[Options]:
    """Options of each model; a wrong option is a UserError."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--config-file", required=True, nargs="+", metavar="FILE", help="configs (file or name), or exported files")
    option("--dataset", default="", metavar="DIR", help=DATASET_HELP)
    option("--weights", default="", metavar="FILE", help="checkpoint (default: random weights)")
    option("--input", default="", metavar="IMAGE", help="image (default: a synthetic one of 480 x 640)")
    option("--device", default="", help="cpu or cuda (default: cuda where there is one)")
    option("--batch-size", type=int, default=1, metavar="N", help="images in a call (default: 1)")
    option("--precision", choices=list(AUTOCAST_DTYPES), default="fp32", help="bf16 and fp16 use autocast")
    option("--size", type=int, nargs=2, metavar=("H", "W"), help="INPUT.FIXED_SIZE, else size of the image, pixels")
    option("--compile", action="store_true", help="torch.compile the (fused) network")
    option("--backends", nargs="+", default=[], metavar="B", help=f"compare {', '.join(BACKENDS)}, exported files")
    option("--runs", type=int, default=20, metavar="N", help="timed calls (default: 20)")
    option("--warmup", type=int, default=5, metavar="N", help="calls before those (default: 5)")
    option("--threads", type=int, default=0, metavar="N", help="PyTorch's CPU threads (default: its choice)")
    option("--output", default="", metavar="FILE.json", help="write everything to this file")
    option("--opts", nargs="*", default=[], metavar="KEY VALUE", help="change the config")
    parser.error = wrong_option("tools/benchmark.py")
    chosen = vars(parser.parse_args(arguments))
    return [Options(config_file, **chosen) for config_file in chosen.pop("config_file")]


if __name__ == "__main__":
    sys.exit(main())
