"""What the user may choose, checked before anything is built."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from insta_rtdetr.errors import UserError
from insta_rtdetr.predict.runtime.session import is_exported

# None: no autocast.
AUTOCAST_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Options:
    """The command line of `tools/benchmark.py`.

    Attributes:
        config_file: yaml.
        dataset: of the user's, for its classes; empty for those of the config.
        weights: checkpoint; empty for random weights.
        input: image; empty for a synthetic one.
        device: cpu or cuda; empty for what there is.
        batch_size: images in a call.
        precision: a key of AUTOCAST_DTYPES.
        size: (height, width) in pixels of the network's input (its fixed size, else the resized image).
        compile: whether the network goes through torch.compile.
        runs: timed calls.
        warmup: calls before those.
        threads: of PyTorch; 0 leaves its choice.
        output: JSON file to write; empty for none.
        backends: runtimes to compare, see `backends.py`; empty for PyTorch by stages.
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
        """Check everything that needs no model.

        Raises:
            UserError: names the option.
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
