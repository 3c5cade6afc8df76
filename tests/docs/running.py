"""Running the blocks of a page, one after another."""

import contextlib
import io
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from .blocks import OTHER_LANGUAGES, OUTPUT_LANGUAGE, RUN_LANGUAGES, Block
from .compare import differing_line
from .workspace import environment

TIMEOUT_SECONDS = 900
STARTING_SECONDS = 120


class BlockError(AssertionError):
    """A block does not do what the page says."""

    def __init__(self, block: Block, message: str) -> None:
        super().__init__(f"{block.place}: {message}")


class PageRunner:
    """Runs blocks in a folder; Python blocks share their names.

    Attributes:
        folder: where the blocks run.
        with_slow: whether slow blocks run.
    """

    def __init__(self, folder: Path, with_slow: bool) -> None:
        self.folder, self.with_slow = folder, with_slow
        self._names: dict[str, object] = {"__name__": "__main__"}
        # What the last block printed; None if it was not run.
        self._printed: str | None = None
        self._servers = contextlib.ExitStack()

    def run(self, blocks: list[Block]) -> None:
        """Run the blocks of a page.

        Raises:
            BlockError: names the block and what it does instead.
        """
        with self._servers, contextlib.chdir(self.folder):
            for block in blocks:
                self._run_one(block)

    def _run_one(self, block: Block) -> None:
        if block.language == OUTPUT_LANGUAGE:
            self._compare(block)
        elif "file" in block.marks:
            (self.folder / block.marks["file"]).write_text(block.text)
        elif block.language in OTHER_LANGUAGES:
            return
        elif block.language not in RUN_LANGUAGES:
            raise BlockError(block, f"language {block.language!r}, wanted one of {(*RUN_LANGUAGES, *OTHER_LANGUAGES)}")
        elif not block.is_run or ("slow" in block.marks and not self.with_slow):
            self._printed = None
        elif "background" in block.marks:
            self._servers.enter_context(serving(block))
        else:
            self._printed = self._run_python(block) if block.language == "python" else run_shell(block)

    def _compare(self, block: Block) -> None:
        if self._printed is None:
            return
        line = differing_line(block.text, self._printed)
        if line is not None:
            raise BlockError(block, f"not printed: {line!r}.  Printed was:\n{self._printed[-3000:]}")

    def _run_python(self, block: Block) -> str:
        # Empty lines in front give tracebacks the page's line numbers.
        code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                exec(code, self._names)
            except Exception as error:
                raise BlockError(block, f"{type(error).__name__}: {error}") from error
        return printed.getvalue()


def run_shell(block: Block) -> str:
    """Run a shell block in the current folder and return what it printed.

    Raises:
        BlockError: its exit code is not the one that the page says.
    """
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text], env=environment(), text=True, timeout=TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BlockError(block, f"took more than {TIMEOUT_SECONDS} s") from None
    if (done.returncode != 0) != ("fails" in block.marks):
        raise BlockError(block, f"exit code {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


@contextlib.contextmanager
def serving(block: Block) -> Iterator[None]:
    """Run a shell block that serves an address; it is ended behind the page's last block.

    Raises:
        BlockError: nothing answers.
    """
    server = subprocess.Popen(
        ["bash", "-c", f"exec {block.text.strip()}"], env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(block.marks["background"], server, block)
        yield
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen, block: Block) -> None:
    """Wait until a server answers.

    Raises:
        BlockError: it does not, or it ended.
    """
    end = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=10).close()
            return
        time.sleep(0.5)
    raise BlockError(block, f"{address} does not answer")
