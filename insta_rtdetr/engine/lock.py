"""A lock that keeps a second training out of an output folder."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import portalocker

from insta_rtdetr.errors import UserError

logger = logging.getLogger(__name__)
LOCK_FILE = ".lock"


@contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Keep other trainings out of a folder within the context; make the folder if it is missing.

    The lock is one of the operating system (flock), so that it ends when the process does.

    Raises:
        UserError: another process trains there, or the folder cannot be written to.
    """
    file = Path(folder) / LOCK_FILE
    with ExitStack() as files:
        with folder_errors():
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = files.enter_context(open(file, "a+"))
        _acquire(handle, folder)
        # Otherwise the loader's processes would hold the lock of a killed training for some seconds.
        is_open = [handle]
        os.register_at_fork(after_in_child=lambda: [inherited.close() for inherited in is_open])
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        try:
            yield
        finally:
            is_open.clear()


@contextmanager
def folder_errors() -> Iterator[None]:
    """Turn an OSError of writing to OUTPUT_DIR within the context into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"OUTPUT_DIR cannot be written to: {error}.  Set another OUTPUT_DIR.") from error


def check_unlocked(folder: str | os.PathLike) -> None:
    """Check that no other process trains in a folder; nothing is written.

    Raises:
        UserError: another process trains there.
    """
    file = Path(folder) / LOCK_FILE
    if file.is_file() and os.access(file, os.W_OK):
        with open(file, "r+") as handle:
            _acquire(handle, folder)


def _acquire(handle: TextIO, folder: str | os.PathLike) -> None:
    try:
        portalocker.lock(handle, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        handle.seek(0)
        process = handle.read().strip() or "unknown"
        raise UserError(
            f"Another training (process {process}) is running in OUTPUT_DIR {folder}.  Set another OUTPUT_DIR, or stop "
            "that one."
        ) from None
    except portalocker.LockException as error:
        logger.warning(f"OUTPUT_DIR {folder} cannot be locked ({error}): start no other training in it")
