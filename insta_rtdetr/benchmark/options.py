"""Options of a benchmark, which are checked before anything is built."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from insta_rtdetr.errors import UserError
from insta_rtdetr.predict.runtime.session import is_exported

# Precision -> type of autocast; None for no autocast.
AUTOCAST_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Options:
    """The options of the benchmark of one model.

    Attributes:
        config_file: name or file of a config, or an exported file.
        dataset: path of the user's dataset, for its classes; empty for those of the config.
        weights: checkpoint; empty for random weights.
        input: image file; empty for a synthetic image.
        device: cpu or cuda; empty for cuda if there is a GPU, and else cpu.
        batch_size: number of images in a call.
        precision: a key of AUTOCAST_DTYPES.
        size: (height, width) in pixels of the network's fixed size or, without one, of the resized image.
        compile: whether the network is compiled with torch.compile.
        runs: number of timed calls.
        warmup: number of calls before those.
        threads: number of PyTorch's threads; 0 for its default.
        output: JSON file that is written; empty for none.
        backends: backends that are compared, see `backends.py`; empty for times of PyTorch by stage.
        opts: KEY VALUE pairs of the config.
    """

    config_file: str
    dataset: str = ""
    weights: str = ""
    input: str = ""
    device: str = ""
    batch_size: int = 1
    precision: str = "fp32"
    size: tuple[int, int] | None = None
    compile: bool = False
    runs: int = 20
    warmup: int = 5
    threads: int = 0
    output: str = ""
    backends: list[str] = field(default_factory=list)
    opts: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.size = tuple(self.size) if self.size else None
        if is_exported(self.config_file) and not self.backends:
            self.backends = [self.config_file]
        self.device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def check(self) -> None:
        """Check the options that can be checked without a model.

        Raises:
            UserError: an option is wrong; the message names it.
        """
        least = {"batch-size": 1, "runs": 1, "warmup": 0, "threads": 0}
        for name, minimum in least.items():
            value = getattr(self, name.replace("-", "_"))
            if value < minimum:
                raise UserError(f"--{name} is {value}, wanted at least {minimum}.")
        if self.size and min(self.size) < 1:
            raise UserError(f"--size is {self.size[0]} {self.size[1]}, wanted two positive numbers.")
        if self.precision not in AUTOCAST_DTYPES:
            raise UserError(f"--precision is {self.precision}, wanted one of {', '.join(AUTOCAST_DTYPES)}.")
        self._check_device()
        self._check_files()

    def _check_files(self) -> None:
        for name, file in {"weights": self.weights, "input": self.input}.items():
            if file and "://" not in file and not Path(file).is_file():
                raise UserError(f"There is no file {file}.  Give an existing one to --{name}.")
        if self.output and Path(self.output).is_dir():
            raise UserError(f"--output {self.output} is a folder, wanted a file.  Change --output.")
        if self.output and not Path(self.output).absolute().parent.is_dir():
            raise UserError(f"The folder of --output {self.output} does not exist.  Make it or change --output.")

    def _check_device(self) -> None:
        try:
            device = torch.device(self.device)
        except RuntimeError:
            device = None
        if device is None or device.type not in ("cpu", "cuda"):
            raise UserError(f"--device is {self.device}, wanted cpu or cuda.")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"--device is {self.device}, but PyTorch finds {torch.cuda.device_count()} GPUs here.  "
                "Use another one, or --device cpu."
            )
