"""The errors that a user can mend.  Every command ends them in one line on stderr and exit code 1."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Registries whose entries a config chooses by name, and the key.
_NAME_KEYS = {
    "META_ARCH": "MODEL.META_ARCHITECTURE",
    "BACKBONE": "MODEL.BACKBONE.NAME",
    "ENCODER": "MODEL.ENCODER.NAME",
    "MATCHER": "MODEL.MATCHER.NAME",
}


class UserError(Exception):
    """Bad input.  The message says what was found, what was wanted, and which key, option or file to change."""


class DatasetError(UserError):
    """A dataset is missing, or something in it is wrong."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, or does not fit the model."""


class ImageError(UserError):
    """A file is not an image or a video, or it is damaged.  The message names the file."""


class DivergenceError(UserError):
    """The losses of a training are no longer finite."""


@contextmanager
def config_errors(part: str) -> Iterator[None]:
    """Within the context something is built from a config: what a constructor says of its values is a UserError.

    Args:
        part: what is built, for the message.
    """
    try:
        yield
    except (ValueError, AssertionError, KeyError) as error:
        raise UserError(_explain_config(part, one_line(error).strip("'\""))) from error


def _explain_config(part: str, message: str) -> str:
    # What fvcore's registries say of a name that they do not know.
    if unknown := re.search(r"No object named '(.*)' found in '(.*)' registry", message):
        name, registry = unknown.groups()
        key = _NAME_KEYS.get(registry, f"the config key for {registry}")
        return f"{key} is {name!r}, which is not registered.  Correct {key}, or import the code that registers it."
    advice = "" if re.search(r"\b(MODEL|INPUT|SOLVER|TEST|DATALOADER)\.", message) else "  Correct the config."
    return f"The config gives no {part}: {message.rstrip('.')}.{advice}"


@contextmanager
def option_errors(option: str) -> Iterator[None]:
    """Within the context what is wrong is wrong with an option of the command line, which the message names first."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{option}: {error}") from error


def one_line(error: BaseException | str) -> str:
    """The message of an error in one line.

    A data loader's worker hands its error over as many lines, its traceback included; the message is the last.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if any("Traceback (most recent call last)" in line for line in lines):
        return lines[-1].partition(": ")[2] or lines[-1]
    return " ".join(lines)


def report(error: BaseException) -> int:
    """Write the error's line to stderr; the exit code."""
    sys.stderr.write(f"error: {one_line(error)}\n")
    return 1
