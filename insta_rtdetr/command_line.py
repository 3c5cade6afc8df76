"""What all commands share: options of one name, meaning and help text, and how a command ends."""

import argparse
import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from insta_rtdetr.errors import UserError, report

# The arguments of `add_argument` for each option that several commands have.
SHARED_OPTIONS: dict[str, dict[str, Any]] = {
    "--config-file": {
        "metavar": "MODEL",
        "help": "the model: name or file of a config, or a checkpoint that says which config it is of",
    },
    "--dataset": {
        "default": "",
        "metavar": "DIR",
        "help": "your own data, of any layout in datasets/README.md: sets the datasets and the classes",
    },
    "--weights": {"default": "", "metavar": "FILE", "help": "checkpoint (default: the published one, if there is one)"},
    "--device": {"default": "", "help": "cpu or cuda (default: the config's, and cpu where there is no GPU)"},
    "--threads": {"type": int, "default": 0, "metavar": "N", "help": "threads on the CPU (default: PyTorch's choice)"},
    "--opts": {"nargs": "*", "default": [], "metavar": "KEY VALUE", "help": "config keys to change, and their values"},
}


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are UserErrors, and which knows the options that several commands have."""

    def __init__(self, prog: str | None, description: str | None = None, **arguments: Any) -> None:
        """Build.

        Args:
            prog: what the user types to run the command; None for the name of the script.
            description: the module's docstring, printed as it is.
            arguments: of `argparse.ArgumentParser`.
        """
        super().__init__(
            prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments
        )

    def add_shared(self, *names: str, **changes: Any) -> None:
        """Add options of `SHARED_OPTIONS`.

        Args:
            names: such as "--weights".
            changes: replace arguments of `add_argument` for these options.
        """
        for name in names:
            self.add_argument(name, **{**SHARED_OPTIONS[name], **changes})

    def add_model(self, required: bool = True) -> None:
        """Add the options that name a model: those of `create_model`.

        --model is a second name of --config-file, for whoever has no config in mind.
        """
        self.add_argument("--config-file", "--model", required=required, **SHARED_OPTIONS["--config-file"])
        self.add_shared("--weights", "--device", "--threads", "--opts")

    def error(self, message: str) -> NoReturn:
        """Report a wrong option.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}.  See {self.prog} --help.")


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command to its exit code; what the user can mend ends in one line on stderr and exit code 1."""
    # What the checkpointer warns of (a head left untrained) belongs before the user's eyes.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return command() or 0
    except UserError as error:
        return report(error)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130


def use_threads(number: int) -> None:
    """Let PyTorch compute with this many threads on the CPU; 0 leaves its choice.

    Raises:
        UserError: the number is negative.
    """
    if number < 0:
        raise UserError(f"--threads is {number}, wanted at least 0.")
    if number:
        import torch

        torch.set_num_threads(number)
