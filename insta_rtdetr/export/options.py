"""Options of an export, which are checked before anything is built."""

from dataclasses import dataclass, field

from insta_rtdetr.errors import UserError

from .formats import FORMATS
from .parity import TOLERANCES
from .quantization import NETWORKS

PRECISIONS = tuple(TOLERANCES)


@dataclass
class Options:
    """The options of an export.

    Attributes:
        config_file: name or file of a config, or a checkpoint.
        weights: checkpoint; empty for the published weights.
        export_format: one of FORMATS.
        precision: one of PRECISIONS.
        dynamic_batch: whether the file takes any number of images at a time.
        with_postprocess: whether masks are those of the input's pixels.
        size: (height, width) of the input in pixels; None for INPUT.FIXED_SIZE.
        output: path of the file, or of OpenVINO's folder; empty for the model's name in the current folder.
        dataset: path of the user's dataset, on whose validation split the AP is compared, and on whose training split
            int8 is calibrated; empty for none.
        max_drop: largest accepted drop of the mask AP on the dataset, in points of 100.
        images: images for the comparison and the calibration of int8; empty for those of the dataset or, without one,
            `EXAMPLE_IMAGES`.
        opts: KEY VALUE pairs of the config.
    """

    config_file: str
    weights: str = ""
    export_format: str = "onnx"
    precision: str = "fp32"
    dynamic_batch: bool = False
    with_postprocess: bool = False
    size: tuple[int, int] | None = None
    output: str = ""
    dataset: str = ""
    max_drop: float = 0.5
    images: list[str] = field(default_factory=list)
    opts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the options that can be checked without a model.

        Raises:
            UserError: an option is wrong; the message names it.
        """
        choices_of = {"format": (self.export_format, FORMATS), "precision": (self.precision, PRECISIONS)}
        for name, (value, choices) in choices_of.items():
            if value not in choices:
                raise UserError(f"--{name} is {value}, wanted one of {', '.join(choices)}.")
        if self.precision == "bf16" and self.export_format != "openvino":
            raise UserError(f"--precision bf16 is for --format openvino, got {self.export_format}.  Choose fp16.")
        if self.size and min(self.size) < 1:
            raise UserError(f"--size is {self.size[0]} {self.size[1]}, wanted two positive numbers.")
        if not self.max_drop >= 0:
            raise UserError(f"--max-drop is {self.max_drop}, wanted at least 0.")
        if self.precision == "int8":
            self._check_int8()

    def _check_int8(self) -> None:
        if self.export_format not in NETWORKS:
            formats = " and ".join(NETWORKS)
            raise UserError(f"--precision int8 is for --format {formats}, got {self.export_format}.  Choose fp16.")
        if not self.dataset and not self.images:
            raise UserError("--precision int8 needs images like those it will be used on.  Give --dataset or --images.")
