"""Journal of an unfinished run: its records, so that a run that was killed can be continued."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from insta_rtdetr.errors import UserError

Record = dict[str, Any]


class Journal:
    """File of JSON lines: the settings of the run, then its records in the order in which they were finished.

    A record has the input's name under "name" and the number of the frame under "frame" (None for an image).  The last
    record of an input has "is_last": true.

    Attributes:
        file: path of the journal.
        done: names of the inputs that have their last record.
        header: the records without a name, merged; later ones replace earlier ones.
    """

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        """Open a journal, or begin a new one.

        Raises:
            UserError: it belongs to a run with other settings, or another process writes to it.
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
                break  # The line is incomplete, because the process was killed.
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
        """Append a record, which is kept even if this process is killed."""
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
        """Return the number of frames of a video that are done, from its first one on."""
        return len(self._offsets.get(name, ()))

    def records_of(self, name: str) -> Iterator[Record]:
        """Yield the records of an input, in the order of its frames."""
        offsets = self._offsets.get(name, {})
        for frame in sorted(offsets, key=lambda frame: frame or 0):
            self._handle.seek(offsets[frame])
            yield json.loads(self._handle.readline())

    def close(self) -> None:
        """Close the journal, so that another process can open it."""
        self._handle.close()
