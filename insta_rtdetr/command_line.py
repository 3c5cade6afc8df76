"""Shared parts of all command lines: options with one name, meaning and help text, and how a command ends."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from insta_rtdetr.errors import UserError, report

# A second name of an option.  Users who do not think of a model as a config look for --model.
_OTHER_NAMES = {"--config-file": ("--model",)}
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
    """Argument parser that raises UserErrors and knows the options that several commands have."""

    def __init__(self, prog: str | None, description: str | None = None, **arguments: Any) -> None:
        """Set up the parser.

        Args:
            prog: what the user types to run the command; None for the name of the script.
            description: the module's docstring, printed as it is.
            arguments: further arguments of `argparse.ArgumentParser`.
        """
        super().__init__(
            prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments
        )

    def add_shared(self, *names: str, **changes: Any) -> None:
        """Add options of `SHARED_OPTIONS`.

        Args:
            names: names of the options, such as "--weights".
            changes: arguments of `add_argument` that replace the shared ones for these options.
        """
        for name in names:
            self.add_argument(name, *_OTHER_NAMES.get(name, ()), **{**SHARED_OPTIONS[name], **changes})

    def add_model(self) -> None:
        """Add the options that name a model; they are the arguments of `create_model`."""
        self.add_shared("--config-file", required=True)
        self.add_shared("--weights", "--device", "--threads", "--opts")

    def error(self, message: str) -> NoReturn:
        """Report a wrong option.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}.  See {self.prog} --help.")


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code.

    An error that the user can correct is written to stderr in one line, with exit code 1.  Ctrl+C gives 130.
    """
    # The user must see the checkpointer's warnings, for example that a head was left untrained.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return command() or 0
    except UserError as error:
        return report(error)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130


def run_subcommand(parser: CommandParser, arguments: Sequence[str] | None) -> int:
    """Run the subcommand that the arguments choose and return its exit code; see `run_command`.

    Args:
        parser: each of its subcommands has set the default `run`, a function of the parsed options.
        arguments: the command line; None for that of the process.
    """

    def run() -> int | None:
        options = parser.parse_args(arguments)
        try:
            return options.run(options)
        except OSError as error:
            raise UserError(str(error)) from error

    return run_command(run)


def use_threads(number: int) -> None:
    """Set the number of threads that PyTorch uses on the CPU; 0 leaves PyTorch's choice.

    Raises:
        UserError: the number is negative.
    """
    if number < 0:
        raise UserError(f"--threads is {number}, wanted at least 0.")
    if number:
        import torch

        torch.set_num_threads(number)
