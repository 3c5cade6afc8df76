"""What other libraries print."""

import contextlib
import io
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def printed_to_log(logger: logging.Logger) -> Iterator[None]:
    """Within the context, what is printed to stdout is kept, and goes to the log at the end."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        if text := printed.getvalue().rstrip():
            logger.info(text)
