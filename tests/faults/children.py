"""Forked processes that a fault can be done to: nothing is imported again, and their output is in a file."""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("fork")


class Child:
    """A process that runs a function.

    Args:
        function: what it runs; what it returns is its exit code, and 99 stands for an exception.
        log: file for what it writes to stdout and stderr.
    """

    def __init__(self, function: Callable[..., int | None], *arguments: Any, log: Path) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        self._process = FORK.Process(target=_run, args=(function, arguments, log))
        self._process.start()

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        """The last line that it has written."""
        return (self.said.strip().splitlines() or [""])[-1]

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, number: int) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> int | None:
        """The exit code, negative for a signal; None, and it is killed, if it has not ended in time."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self.send(signal.SIGKILL)
            self._process.join()
        return code


def _run(function: Callable[..., int | None], arguments: tuple, log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(stream), "w", buffering=1) for stream in (1, 2))
    try:
        code = function(*arguments) or 0
    except SystemExit as leave:
        code = leave.code
    except BaseException:
        traceback.print_exc()
        code = 99
    os._exit(code)
