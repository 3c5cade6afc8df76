"""The one place that knows which errors are a user's to mend: they end in one line on stderr and exit code 1."""

import sys


class UserError(Exception):
    """Bad input.  The message says what was found, what was wanted, and which key or file to change."""


def user_error_types() -> tuple[type[Exception], ...]:
    """Every exception type of this package that stands for bad input, or for settings that do not train."""
    from insta_rtdetr.checkpoint import CheckpointError
    from insta_rtdetr.data.datasets import DatasetError
    from insta_rtdetr.evaluation import EvaluationError

    return UserError, DatasetError, CheckpointError, EvaluationError, FloatingPointError


def one_line(error: BaseException) -> str:
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
