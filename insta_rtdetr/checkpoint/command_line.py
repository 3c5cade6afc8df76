"""Say what a checkpoint is, write it with other class heads, or turn it into a small Detectron2 checkpoint.

    insta-rtdetr checkpoint info output/model_final.pth
    insta-rtdetr checkpoint info output/model_final.pth --config > config.yaml
    insta-rtdetr checkpoint heads 50.pth vehicles.pth --keep car bus truck
    insta-rtdetr checkpoint heads 50.pth headless.pth --drop-all
    insta-rtdetr checkpoint convert mask_rtdetr_hgnetv2_l_6x_coco.pdparams mask_rtdetr_hgnetv2_l_640.pth
    insta-rtdetr checkpoint convert output/model_best.pth to_publish.pth --half
    insta-rtdetr checkpoint convert --from-timm resnet50d.pth resnet50d-d2.pth

Classes are found by name, never by position.  Takes every format that MODEL.WEIGHTS takes; what is written holds the
weights that --eval-only would use, without the optimizer.  A published checkpoint need not be converted for
MODEL.WEIGHTS; a converted one can be read by any tool of Detectron2.
"""

import argparse

from insta_rtdetr.command_line import CommandParser, run_subcommand
from insta_rtdetr.errors import CheckpointError

from .contents import drop_classes, keep_classes, read_contents
from .convert import convert
from .timm import backbone_from_timm

DESTINATION_HELP = "Detectron2 checkpoint to write (.pth, or .pkl of numpy arrays)"


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_subcommand(_parser(prog), arguments)


def _parser(prog: str | None) -> CommandParser:
    parser = CommandParser(prog, __doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="format, model, classes, iteration, parameters, keys")
    info.add_argument("file")
    info.add_argument("--config", action="store_true", help="write the config that the file holds, and nothing else")
    info.set_defaults(run=_info)

    heads = commands.add_parser("heads", help="write a checkpoint with some of the classes, or without class heads")
    heads.add_argument("source")
    heads.add_argument("destination", help=DESTINATION_HELP)
    which = heads.add_mutually_exclusive_group(required=True)
    which.add_argument("--keep", nargs="+", metavar="NAME", help="the classes to keep, in this order")
    which.add_argument("--drop-all", action="store_true", help="leave all tensors out that have rows for classes")
    heads.set_defaults(run=_heads)

    converting = commands.add_parser("convert", help="write a Detectron2 checkpoint of the weights alone")
    converting.add_argument("source", help="checkpoint of an original, of timm, or ours")
    converting.add_argument("destination", help=DESTINATION_HELP)
    converting.add_argument("--half", action="store_true", help="write float16: half the size")
    converting.add_argument("--from-timm", action="store_true", help="the source is a ResNet of timm, see below")
    converting.epilog = (
        "timm's resnet18d, 34d, 50d and 101d fit build_resnet_vd_backbone, plain ResNets build_resnet_backbone.  They\n"
        "expect ImageNet's mean and standard deviation: MODEL.PIXEL_MEAN \"[123.675, 116.280, 103.530]\"\n"
        "MODEL.PIXEL_STD \"[58.395, 57.120, 57.375]\" INPUT.FORMAT RGB."
    )
    converting.set_defaults(run=_convert)
    return parser


def _info(chosen: argparse.Namespace) -> None:
    print(config_of(chosen.file) if chosen.config else read_contents(chosen.file).summary())


def _heads(chosen: argparse.Namespace) -> None:
    if chosen.drop_all:
        print(drop_classes(chosen.source, chosen.destination))
    else:
        print(keep_classes(chosen.source, chosen.destination, chosen.keep))


def _convert(chosen: argparse.Namespace) -> None:
    rename = backbone_from_timm if chosen.from_timm else dict
    print(convert(chosen.source, chosen.destination, rename, chosen.half))


def config_of(file: str) -> str:
    """Return the config in a checkpoint, as yaml.

    Raises:
        CheckpointError: there is none.
    """
    config = read_contents(file).config
    if not config:
        raise CheckpointError(f"{file} holds no config; only checkpoints of our trainings do.")
    return config.rstrip("\n")
