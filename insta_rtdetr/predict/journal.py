"""The records of an unfinished run, so that a killed one goes on where it was."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from insta_rtdetr.errors import UserError

Record = dict[str, Any]


class Journal:
    """A file of JSON lines: the run's settings, then the records in the order in which they came.

    A record tells of an input under "name", of one of its frames under "frame" (None for an image).  The last record
    of an input has "is_last"; frames of an input without it are predicted again.

    Attributes:
        file: where it lies.
        done: names of the inputs that have their last record.
        header: the latest records without a name, merged.
    """

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        """Open a journal, or begin one.

        Raises:
            UserError: it is of a run with other settings, or another process writes to it.
        """
        self.file = file
        self.done: set[str] = set()
        self.header: Record = {}
        self._offsets: dict[str, dict[int | None, int]] = {}
        self._handle = open(file, "a+b")  # noqa: SIM115 (closed by `close`)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another run writes to {file.parent}.  Wait for it, or name another folder.") from error
        self._read()
        self._check(json.loads(json.dumps(settings)))

    def _read(self) -> None:
        self._handle.seek(0)
        offset = 0
        for line in self._handle:
            if not line.endswith(b"\n"):
                break  # a kill cut it off
            self._note(json.loads(line), offset)
            offset += len(line)
        self._handle.truncate(offset)

    def _check(self, settings: dict[str, Any]) -> None:
        if "settings" not in self.header:
            self.add({"settings": settings})
        for name, wanted in settings.items():
            found = self.header["settings"].get(name)
            if found != wanted:
                raise UserError(
                    f"{self.file} is of an unfinished run with {name} {found}, now it is {wanted}.  Repeat that run, "
                    "remove the file, or name another folder."
                )

    def add(self, record: Record) -> None:
        """Append a record; it is kept whatever happens to this process."""
        offset = self._handle.seek(0, os.SEEK_END)
        self._handle.write(json.dumps(record).encode() + b"\n")
        self._handle.flush()
        self._note(record, offset)

    def _note(self, record: Record, offset: int) -> None:
        if "name" not in record:
            self.header |= record
            return
        self._offsets.setdefault(record["name"], {})[record["frame"]] = offset
        if record["is_last"]:
            self.done.add(record["name"])

    def count_frames(self, name: str) -> int:
        """Frames of a video that are done, from its first one on."""
        return len(self._offsets.get(name, ()))

    def records_of(self, name: str) -> Iterator[Record]:
        """The records of an input, in the order of frames."""
        offsets = self._offsets.get(name, {})
        for frame in sorted(offsets, key=lambda frame: frame or 0):
            self._handle.seek(offsets[frame])
            yield json.loads(self._handle.readline())

    def close(self) -> None:
        """Let others have it."""
        self._handle.close()
