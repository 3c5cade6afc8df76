"""What the machine does to a run is told in a line that says what to change; other errors stay."""

import errno
import shutil
from collections import namedtuple

import pytest

from insta_rtdetr.engine.machine import machine_errors
from insta_rtdetr.errors import UserError

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "error", "wanted"),
    [
        (2**30, OSError(errno.ENOSPC, "No space left on device"), "Make room on the disk"),
        (0, OSError(errno.ENOSPC, "No space left on device"), "/dev/shm.*NUM_WORKERS 0"),
        (0, RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. ... out of shared memory"), "shm"),
        (0, RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "process 7 is killed by signal"),
        (0, RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "process 7, 8 exited"),
    ],
)
def test_the_machine_s_errors_are_one_line(monkeypatch, free, error, wanted):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**30, 0, free))
    with pytest.raises(UserError, match=wanted) as told, machine_errors():
        raise error
    assert "--resume" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file"), RuntimeError("shapes differ")])
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as told, machine_errors():
        raise error
    assert told.value is error
