"""The log of a run: what a person wants to see goes to the terminal, and everything goes to log.txt."""

import contextlib
import logging
import os
import sys
from logging.handlers import MemoryHandler
from typing import Any, Self

from detectron2.utils import comm
from tqdm import tqdm

# Ours, Detectron2's, Python's warnings, PyTorch's and all other libraries'.
LOGGERS = ("insta_rtdetr", "detectron2", "fvcore", "py.warnings", "torch", None)
TALKATIVE = LOGGERS[:3]
FILE_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"

terminal = logging.getLogger("insta_rtdetr.terminal")


def say(text: str) -> None:
    """Write a text to the terminal and to the log."""
    terminal.info(text)


class TerminalHandler(logging.Handler):
    """Writes what is said and this package's warnings to stdout, above progress bars."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is for the terminal."""
        # What the checkpointer warns of stands on the first screen.
        is_ours = record.name.startswith("insta_rtdetr.") and not record.exc_info
        return record.name == terminal.name or (is_ours and record.levelno >= logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        # A terminal that is gone must not cost the run.
        with contextlib.suppress(OSError):
            tqdm.write(prefix + record.getMessage(), file=sys.stdout)
            sys.stdout.flush()


class RunLog:
    """Keeps all logs and warnings of this process in memory within its context, until `open` names a folder.

    So a run that is refused leaves nothing behind, neither on the terminal nor on the disk.  Loggers are as before
    afterwards.
    """

    def __enter__(self) -> Self:
        self._loggers = [logging.getLogger(name) for name in LOGGERS]
        self._before = [(one, one.handlers, one.level, one.propagate) for one in self._loggers]
        self._early = MemoryHandler(sys.maxsize, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = []
        logging.captureWarnings(True)
        for logger in self._loggers:
            logger.handlers, logger.propagate = [self._early], False
            if logger.name in TALKATIVE:
                logger.setLevel(logging.INFO)
        return self

    def open(self, folder: str | os.PathLike) -> None:
        """Write what was kept, and all that follows, to the folder's log.txt and the terminal.

        The main process writes to both, others to log.txt.rank1, log.txt.rank2, ... alone, as in Detectron2.

        Raises:
            OSError: the file cannot be written.
        """
        rank = comm.get_rank()
        file = logging.FileHandler(os.path.join(folder, "log.txt" if rank == 0 else f"log.txt.rank{rank}"))
        file.setFormatter(logging.Formatter(FILE_FORMAT, "%m/%d %H:%M:%S"))
        self._handlers = [file, TerminalHandler()] if rank == 0 else [file]
        for logger in self._loggers:
            logger.handlers = list(self._handlers)
        for record in self._early.buffer:
            for handler in self._handlers:
                handler.handle(record)

    def __exit__(self, *error: Any) -> None:
        logging.captureWarnings(False)
        for logger, handlers, level, propagate in self._before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        for handler in self._handlers:
            handler.close()
