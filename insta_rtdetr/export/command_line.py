"""Write a trained model as one file: images in; classes, scores, boxes and masks of the top objects out.

    insta-rtdetr export --config-file quickstart_MNV2_D3_256 --format onnx --output model.onnx

The file is compared with the model on images.  If what they find differs, the exit code is 1 and no file is left, as
for any bad input.
"""

from insta_rtdetr.command_line import CommandParser, run_command, use_threads
from insta_rtdetr.errors import UserError

from .formats import FORMATS
from .run import PRECISIONS, Options, run


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command line; the exit code."""
    return run_command(lambda: _run(parse(arguments, prog)))


def _run(options: Options) -> None:
    if not run(options):
        raise UserError("The exported network finds other objects than the model, see above.  Nothing was kept.")


def parse(arguments: list[str] | None, prog: str | None = None) -> Options:
    """Parse; a wrong option is a UserError."""
    parser = CommandParser(prog, __doc__)
    parser.add_shared("--config-file", required=True)
    parser.add_shared("--weights", "--threads", "--opts")
    option = parser.add_argument
    option("--format", default="onnx", dest="export_format", metavar="F", help=", ".join(FORMATS) + " (default: onnx)")
    option("--precision", default="fp32", metavar="P", help=f"{', '.join(PRECISIONS)} (default: fp32)")
    option("--dynamic-batch", action="store_true", help="take any number of images at a time (default: one)")
    option("--with-postprocess", action="store_true", help="give masks of the input's pixels, not logits of a map")
    option("--size", type=int, nargs=2, metavar=("H", "W"), help="input, pixels (default: INPUT.FIXED_SIZE)")
    option("--output", default="", help="file, or OpenVINO's folder (default: named after the config, here)")
    option("--images", nargs="*", default=[], metavar="PATH", help="compare on these (default: four photographs)")
    chosen = vars(parser.parse_args(arguments))
    use_threads(chosen.pop("threads"))
    return Options(**chosen)
