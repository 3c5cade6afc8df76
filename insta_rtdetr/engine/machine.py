"""Errors of the machine under a run, put so that a user can mend them."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from insta_rtdetr.errors import UserError, one_line

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
AGAIN = "give the same command with --resume"


SHARED_MEMORY = "/dev/shm"
LEAST_SHARED = 2**20  # bytes
_FULL = r"shared memory|No space left on device|unable to (mmap|write|resize)"
_KILLED = r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (is killed by signal: \w+|exited unexpectedly)"


@contextmanager
def machine_errors() -> Iterator[None]:
    """Turn errors of a full disk, full shared memory and killed processes of a loader into UserErrors.

    Raises:
        UserError: one of these has occurred within the context; it says what to change.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        message = f"A file cannot be written: {error}.  Make room on the disk, and {AGAIN}."
        raise UserError(_explain_shared(error) if _is_shared_full() else message) from error
    except RuntimeError as error:
        if message := _explain_loader(str(error)):
            raise UserError(message) from error
        raise


def _explain_loader(text: str) -> str:
    """Return what to do about a RuntimeError of PyTorch's loader; nothing if it is another one."""
    if "DataLoader worker" not in text:
        return ""
    if re.search(_FULL, text):
        return _explain_shared(text)
    if killed := re.search(_KILLED, text):
        return (
            f"The loader's process {killed[1]} {killed[2]}, perhaps because the memory is full.  Lower "
            f"DATALOADER.NUM_WORKERS, and {AGAIN}."
        )
    return ""


def _explain_shared(error: OSError | str) -> str:
    return (
        f"{SHARED_MEMORY}, through which the loader's processes give images, is full ({one_line(error)[:100]}).  "
        f"Enlarge it (docker run --shm-size 8g) or set DATALOADER.NUM_WORKERS 0, and {AGAIN}."
    )


def _is_shared_full() -> bool:
    return os.path.isdir(SHARED_MEMORY) and shutil.disk_usage(SHARED_MEMORY).free < LEAST_SHARED
