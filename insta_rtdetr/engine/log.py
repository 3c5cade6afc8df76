"""The log of a run: everything goes to log.txt, and the messages for users go to the terminal as well."""

import contextlib
import logging
import os
import sys
from logging.handlers import MemoryHandler
from typing import Any, Self

from detectron2.utils import comm
from tqdm import tqdm

# The loggers of this package, Detectron2 and fvcore, Python's warnings, PyTorch, and all other libraries.
LOGGERS = ("insta_rtdetr", "detectron2", "fvcore", "py.warnings", "torch", None)
INFO_LOGGERS = LOGGERS[:3]
FILE_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"

terminal = logging.getLogger("insta_rtdetr.terminal")


def say(text: str) -> None:
    """Write a text to the terminal and to the log."""
    terminal.info(text)


class TerminalHandler(logging.Handler):
    """Writes the messages of `say` and this package's warnings to stdout, above progress bars."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is for the terminal."""
        # The warnings of the checkpointer, which uses fvcore's logger, are left out: the first screen shows them.
        is_ours = record.name.startswith("insta_rtdetr.") and not record.exc_info
        return record.name == terminal.name or (is_ours and record.levelno >= logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        # A closed terminal must not end the run.
        with contextlib.suppress(OSError):
            tqdm.write(prefix + record.getMessage(), file=sys.stdout)
            sys.stdout.flush()


class LogFile(logging.FileHandler):
    """Writes log.txt.  A full disk costs its lines and not the run, nor the message that the run ends with."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report an error in a record as Python does, unless the file cannot be written."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            super().close()


class RunLog:
    """Context that keeps all logs and warnings of this process in memory until `open` is called with a folder.

    A run that is refused before that leaves nothing on the terminal or the disk.  The loggers are restored at the end
    of the context.
    """

    def __enter__(self) -> Self:
        self._loggers = [logging.getLogger(name) for name in LOGGERS]
        self._before = [(one, one.handlers, one.level, one.propagate) for one in self._loggers]
        self._early = MemoryHandler(sys.maxsize, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = []
        logging.captureWarnings(True)
        for logger in self._loggers:
            logger.handlers, logger.propagate = [self._early], False
            if logger.name in INFO_LOGGERS:
                logger.setLevel(logging.INFO)
        return self

    def open(self, folder: str | os.PathLike) -> None:
        """Write the kept records, and all that follow, to the folder's log.txt and to the terminal.

        As in Detectron2, other processes than the main one write only to log.txt.rank1, log.txt.rank2, ...

        Raises:
            OSError: the file cannot be written.
        """
        rank = comm.get_rank()
        file = LogFile(os.path.join(folder, "log.txt" if rank == 0 else f"log.txt.rank{rank}"))
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
