"""Errors that a user can correct.  Every command reports them in one line on stderr, with exit code 1."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Registry name -> the config key that chooses one of its entries by name.
_NAME_KEYS = {
    "META_ARCH": "MODEL.META_ARCHITECTURE",
    "BACKBONE": "MODEL.BACKBONE.NAME",
    "ENCODER": "MODEL.ENCODER.NAME",
    "MATCHER": "MODEL.MATCHER.NAME",
}


class UserError(Exception):
    """Error in the user's input.  The message says what was found, what was wanted, and which key or file to change."""


class DatasetError(UserError):
    """Error in a dataset: something is missing or wrong."""


class CheckpointError(UserError):
    """Error in a checkpoint: it cannot be read, or it does not fit the model."""


class DamagedCheckpointError(CheckpointError):
    """Error in a checkpoint that is missing, not whole, or whose weights are not finite: an older one may do."""


class ImageError(UserError):
    """Error in a file that should be an image or a video, and is none or is damaged.  The message names the file."""


class DivergenceError(UserError):
    """Error in a training whose losses are no longer finite."""


@contextmanager
def config_errors(part: str) -> Iterator[None]:
    """Turn errors of a `with` block that builds something from a config into UserErrors.

    Args:
        part: what is built, for the message.

    Raises:
        UserError: a constructor raised ValueError, AssertionError or KeyError, which means a wrong config value.
    """
    try:
        yield
    except (ValueError, AssertionError, KeyError) as error:
        raise UserError(_explain_config(part, one_line(error).strip("'\""))) from error


def _explain_config(part: str, message: str) -> str:
    # fvcore's registries raise this message for a name that they do not know.
    if unknown := re.search(r"No object named '(.*)' found in '(.*)' registry", message):
        name, registry = unknown.groups()
        key = _NAME_KEYS.get(registry, f"the config key for {registry}")
        return f"{key} is {name!r}, which is not registered.  Correct {key}, or import the code that registers it."
    advice = "" if re.search(r"\b(MODEL|INPUT|SOLVER|TEST|DATALOADER)\.", message) else "  Correct the config."
    return f"The config gives no {part}: {message.rstrip('.')}.{advice}"


@contextmanager
def option_errors(option: str) -> Iterator[None]:
    """Put the name of a command-line option in front of the UserErrors of a `with` block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{option}: {error}") from error


def one_line(error: BaseException | str) -> str:
    """Return the message of an error in one line.

    A data loader's worker reports its error with the whole traceback; only the last line of such a message is returned.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if any("Traceback (most recent call last)" in line for line in lines):
        return lines[-1].partition(": ")[2] or lines[-1]
    return " ".join(lines)


def report(error: BaseException) -> int:
    """Write the error's message to stderr in one line, and return the exit code 1."""
    sys.stderr.write(f"error: {one_line(error)}\n")
    return 1
