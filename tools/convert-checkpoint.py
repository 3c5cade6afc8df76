#!/usr/bin/env python3
"""Turn a published checkpoint of a model we have, or one of our trainings, into a small Detectron2 one.

    python tools/convert-checkpoint.py 50.pth insta_rtdetr_R50vd_D6_640.pth
    python tools/convert-checkpoint.py mask_rtdetr_hgnetv2_l_6x_coco.pdparams mask_rtdetr_hgnetv2_l_640.pth
    python tools/convert-checkpoint.py PPHGNetV2_L_ssld_pretrained.pdparams hgnetv2_l.pth
    python tools/convert-checkpoint.py output/model_best.pth to_publish.pth --half

Not needed for MODEL.WEIGHTS, which takes these files as they are; the result holds the averaged weights alone, without
the optimizer, and any Detectron2 tool reads it.
"""

import argparse

from insta_rtdetr.checkpoint.convert import convert, run


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="checkpoint of the original, or ours")
    parser.add_argument("destination", help="Detectron2 checkpoint to write (.pth, or .pkl of numpy arrays)")
    parser.add_argument("--half", action="store_true", help="write float16: half the size")
    arguments = parser.parse_args()
    run(lambda: convert(arguments.source, arguments.destination, half_precision=arguments.half))


if __name__ == "__main__":
    main()
