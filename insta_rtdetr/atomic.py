"""Files and folders that appear whole or not at all, whenever the process is killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from insta_rtdetr.errors import DatasetError


@contextmanager
def new_file(file: str | os.PathLike, several_writers: bool = False) -> Iterator[Path]:
    """Within the context, a path beside `file` to write to; it replaces `file` when the context ends without an error.

    What was written is forced to the disk before, so that a reader sees the old file or the new one, whole.

    Args:
        file: the file to make or to replace; its folder exists.
        several_writers: whether other processes may write the same file at the same time.
    """
    file = Path(file)
    # One name for all attempts: what a killed process left is overwritten by the next.
    writer = f"-{os.getpid()}" if several_writers else ""
    unfinished = file.with_name(f".{file.stem}.unfinished{writer}{file.suffix}")
    try:
        yield unfinished
        with open(unfinished, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(file: str | os.PathLike, text: str, several_writers: bool = False) -> None:
    """Write a UTF-8 file, whole or not at all; its folder is made if need be."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with new_file(file, several_writers) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Within the context, a folder to fill; `folder` is it when the context ends without an error.

    Raises:
        DatasetError: the folder exists and is not empty; it is left as it is.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(f"{folder} exists already.  Name another folder, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.unfinished-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp makes private folders
        yield unfinished
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
