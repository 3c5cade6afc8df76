"""Writing files and folders so that they appear whole or not at all, even if the process is killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from insta_rtdetr.errors import DatasetError


@contextmanager
def new_file(file: str | os.PathLike, several_writers: bool = False, keep_ending: bool = False) -> Iterator[Path]:
    """Write a new file, or replace one, in a `with` block.

    The `with` statement gives a path beside `file` to write to.  When the block ends without an error, what was written
    is forced to the disk and moved to `file`.  So a reader sees either the whole old file or the whole new one.

    Args:
        file: the file to make or to replace; its folder exists.
        several_writers: whether other processes may write the same file at the same time.
        keep_ending: whether the path must end as the file does, for writers that choose the format by it.  Otherwise
            it ends in ".unfinished", so that nobody takes what a killed process left behind for a whole file.
    """
    file = Path(file)
    # All attempts use one name, so that the next one overwrites what a killed process left behind.
    writer = f"-{os.getpid()}" if several_writers else ""
    stem, ending = (file.stem, file.suffix) if keep_ending else (file.name, "")
    unfinished = file.with_name(f".{stem}.unfinished{writer}{ending}")
    try:
        yield unfinished
        with open(unfinished, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(file: str | os.PathLike, text: str, several_writers: bool = False) -> None:
    """Write a UTF-8 file, whole or not at all, and make its folder if there is none."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with new_file(file, several_writers) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Make a new folder and fill it in a `with` block.

    The `with` statement gives a folder beside `folder` to fill.  When the block ends without an error, it is renamed to
    `folder`.

    The context receives a folder beside `folder` to fill.

    Raises:
        DatasetError: the folder exists and is not empty; it is left as it is.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(f"{folder} exists already.  Name another folder, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.unfinished-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp makes folders that only their owner can read.
        yield unfinished
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
