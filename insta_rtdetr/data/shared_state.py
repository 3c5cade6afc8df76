"""Integers that a mapper shares with its copies in the processes of the data loader."""

import os
import tempfile
import weakref

import numpy as np


class SharedIntegers:
    """A few integers in a memory-mapped file, so that copies of the object in other processes see each other's writes.

    A file works however the processes are started.  The shared memory of torch and multiprocessing cannot be pickled
    with cloudpickle, which is how Detectron2 sends a mapper to processes that are not forked.
    """

    def __init__(self, length: int):
        handle, self._path = tempfile.mkstemp(prefix="insta_rtdetr_")
        os.truncate(handle, 8 * length)
        os.close(handle)
        self._length = length
        self._open()
        weakref.finalize(self, _remove_in, os.getpid(), self._path)

    def _open(self) -> None:
        self.values = np.memmap(self._path, dtype=np.int64, mode="r+", shape=(self._length,))

    def __getstate__(self) -> dict:
        return {"_path": self._path, "_length": self._length}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


def _remove_in(process_id: int, path: str) -> None:
    """Remove the file in the process that made it, and in no other: forked copies are finalized too."""
    if os.getpid() == process_id and os.path.exists(path):
        os.remove(path)
