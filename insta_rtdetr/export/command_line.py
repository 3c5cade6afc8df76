"""Write a trained model as one file that takes images and returns classes, scores, boxes and masks of the best objects.

    insta-rtdetr export --config-file quickstart_MNV2_D3_256 --format onnx --output model.onnx

The file is compared with the model by the AP on the validation split of --dataset or, without one, by the objects in
images.  If they differ too much, the exit code is 1 and no file is left.  Bad input ends in one line on stderr and exit
code 1.

    insta-rtdetr export --model insta_rtdetr_MNV2_D3_320 --size 320 416 --format openvino --precision int8 --dataset DIR

With int8, backbone and encoder are quantised, in ONNX and OpenVINO.  They are calibrated on the training split of
--dataset, or on half of --images, and then the other half is compared.  Layers that lose too much stay in float32.
"""

from insta_rtdetr.command_line import CommandParser, run_command, use_threads
from insta_rtdetr.errors import UserError

from .formats import FORMATS
from .options import PRECISIONS, Options
from .run import run


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: _run(parse(arguments, prog)))


def _run(options: Options) -> None:
    if not run(options):
        raise UserError("The exported network differs too much from the model, see above.  Nothing was kept.")


def parse(arguments: list[str] | None, prog: str | None = None) -> Options:
    """Parse the options.

    Raises:
        UserError: an option is wrong.
    """
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
    parser.add_shared("--dataset", help="your own data, of any layout in datasets/README.md: the AP on it decides")
    option("--max-drop", type=float, default=0.5, metavar="AP", help="mask AP that may be lost (default: 0.5 of 100)")
    option("--images", nargs="*", default=[], metavar="PATH", help="compare on these (default: four photographs)")
    chosen = vars(parser.parse_args(arguments))
    use_threads(chosen.pop("threads"))
    return Options(**chosen)
