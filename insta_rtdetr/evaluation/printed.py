"""A context that keeps what other libraries print off the terminal."""

import contextlib
import io
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def printed_to_log(logger: logging.Logger) -> Iterator[None]:
    """Collect what is printed to stdout within the context, and log it at the end."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        if text := printed.getvalue().rstrip():
            logger.info(text)
