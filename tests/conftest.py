"""What every test leaves as it found it."""

import logging
from collections.abc import Iterator

import pytest
from detectron2.utils.logger import setup_logger


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """A command run within a test gives the loggers handlers, which write into that test's captured output."""
    loggers = [logging.getLogger(name) for name in (None, "detectron2", "fvcore", "insta_rtdetr")]
    handlers = [list(logger.handlers) for logger in loggers]
    yield
    for logger, before in zip(loggers, handlers, strict=True):
        logger.handlers[:] = before
    # It remembers which loggers it has set up.
    setup_logger.cache_clear()
