#!/usr/bin/env python3
"""Turn timm ResNet weights into a Detectron2 checkpoint for MODEL.WEIGHTS.

    python tools/convert-timm-to-d2.py resnet50d.pth resnet50d-d2.pth

resnet18d, 34d, 50d and 101d fit `build_resnet_vd_backbone`; plain ResNets fit Detectron2's `build_resnet_backbone`.
The weights expect ImageNet's mean and standard deviation:
MODEL.PIXEL_MEAN "[123.675, 116.280, 103.530]" MODEL.PIXEL_STD "[58.395, 57.120, 57.375]" INPUT.FORMAT RGB.
"""

import argparse

from insta_rtdetr.checkpoint.convert import convert, run
from insta_rtdetr.checkpoint.timm import backbone_from_timm


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="timm state dict (.pth), or a checkpoint that holds one")
    parser.add_argument("destination", help="Detectron2 checkpoint to write (.pth, or .pkl of numpy arrays)")
    arguments = parser.parse_args()
    run(lambda: convert(arguments.source, arguments.destination, backbone_from_timm))


if __name__ == "__main__":
    main()
