"""Time a model from image to COCO RLE, end to end and by stage, and count its parameters and GFLOPs.

    insta-rtdetr benchmark --config-file insta_rtdetr_R50vd_D6_640

This works with every Detectron2 instance-segmentation model.  For several models there is also a table with a row for
each.  Bad input ends in one line on stderr and exit code 1.
"""

from insta_rtdetr.command_line import CommandParser, run_command

from .backends import BACKENDS
from .options import AUTOCAST_DTYPES, Options
from .run import run


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: run(parse(arguments, prog)))


def parse(arguments: list[str] | None, prog: str | None = None) -> list[Options]:
    """Parse the command line into the options of each model.

    Raises:
        UserError: an option is wrong.
    """
    parser = CommandParser(prog, __doc__)
    parser.add_shared("--config-file", required=True, nargs="+", help="configs (name or file), or exported files")
    parser.add_shared("--weights", help="checkpoint (default: random weights)")
    parser.add_shared("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_shared("--dataset", "--threads", "--opts")
    option = parser.add_argument
    option("--input", default="", metavar="IMAGE", help="image (default: a synthetic one of 480 x 640)")
    option("--batch-size", type=int, default=1, metavar="N", help="images in a call (default: 1)")
    option("--precision", choices=list(AUTOCAST_DTYPES), default="fp32", help="bf16 and fp16 use autocast")
    option("--size", type=int, nargs=2, metavar=("H", "W"), help="INPUT.FIXED_SIZE, else size of the image, pixels")
    option("--compile", action="store_true", help="torch.compile the (fused) network")
    option("--backends", nargs="+", default=[], metavar="B", help=f"compare {', '.join(BACKENDS)}, exported files")
    option("--runs", type=int, default=20, metavar="N", help="timed calls (default: 20)")
    option("--warmup", type=int, default=5, metavar="N", help="calls before those (default: 5)")
    option("--output", default="", metavar="FILE.json", help="write everything to this file")
    chosen = vars(parser.parse_args(arguments))
    return [Options(config_file, **chosen) for config_file in chosen.pop("config_file")]
