"""The cache of downloaded published files."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import portalocker

from insta_rtdetr.atomic import write_text
from insta_rtdetr.errors import UserError

from .download import DownloadError, download, mirrored, remove_partial
from .published import PublishedFile

logger = logging.getLogger(__name__)
CACHE_VARIABLE = "INSTA_RTDETR_CACHE"
_LONGEST_DOWNLOAD_SECONDS = 24 * 3600


def cache_folder() -> Path:
    """Return $INSTA_RTDETR_CACHE, or insta_rtdetr in $XDG_CACHE_HOME or ~/.cache."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "insta_rtdetr"


def cached_path(published: PublishedFile) -> Path:
    """Return the path of the file in the cache; a file that was downloaded by hand can be put there."""
    return cache_folder() / published.name / published.file_name


def is_cached(published: PublishedFile) -> bool:
    """Return whether the file is in the cache and has the right size."""
    file = cached_path(published)
    return file.is_file() and not _fault_of_size(file, published)


def partial_bytes(published: PublishedFile) -> int:
    """Return the number of bytes of an interrupted download."""
    partial = _partial(cached_path(published))
    return partial.stat().st_size if partial.is_file() else 0


def fetch(published: PublishedFile) -> Path:
    """Return the path of the file, which is downloaded if it is not in the cache.

    If another process is downloading the file, this one waits for it.

    Raises:
        UserError: the file cannot be downloaded or written, or its size or checksum is wrong.
    """
    file = cached_path(published)
    if _is_usable(file, published):
        return file
    with _one_line_errors(published, file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with _download_lock(file):
            if not _is_usable(file, published):
                _download(published, file)
    return file


def verify(published: PublishedFile) -> str:
    """Check the size and the checksum of a cached file; return what is wrong, or an empty text."""
    file = cached_path(published)
    return _fault_of_size(file, published) or _fault_of_checksum(file, _known_checksum(file, published))


def _is_usable(file: Path, published: PublishedFile) -> bool:
    if not file.is_file():
        return False
    fault = _fault_of_size(file, published)
    if not fault and _recorded(file, "address") != published.address:
        # The file has not been checked yet: it was put here by hand, or the list has changed.
        fault = _fault_of_checksum(file, published.checksum)
        if not fault:
            _record(file, published)
    if fault:
        logger.warning("%s %s: it is downloaded again", file, fault)
    return not fault


def _download(published: PublishedFile, file: Path) -> None:
    partial, address = _partial(file), mirrored(published.address)
    logger.info("Downloading %s to %s", address, file)
    download(address, partial, published.name)
    if fault := _fault_of_size(partial, published) or _fault_of_checksum(partial, published.checksum):
        remove_partial(partial)
        raise DownloadError(f"what was downloaded {fault}")
    with open(partial, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(partial, file)
    remove_partial(partial)
    _record(file, published)


@contextmanager
def _download_lock(file: Path) -> Iterator[None]:
    """Keep other processes from downloading the file within the context."""
    lock = portalocker.Lock(file.with_name(f"{file.name}.lock"), timeout=_LONGEST_DOWNLOAD_SECONDS)
    try:
        lock.acquire(fail_when_locked=True)
    except portalocker.AlreadyLocked:
        logger.info("Another process is downloading %s: waiting for it", file)
        lock.acquire(fail_when_locked=False)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _one_line_errors(published: PublishedFile, file: Path) -> Iterator[None]:
    try:
        yield
    except DownloadError as error:
        raise UserError(
            f"{mirrored(published.address)} cannot be downloaded: {error}.  Try again, or fetch the file by hand and "
            f"put it at {file}."
        ) from error
    except (OSError, portalocker.LockException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"{published.name} cannot be written to {file}: {reason}.  Free space, or set {CACHE_VARIABLE} to another "
            f"folder; the file comes from {mirrored(published.address)} and can be put there by hand."
        ) from error


def _partial(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _record_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _record(file: Path, published: PublishedFile) -> None:
    """Record address, size and checksum of the checked file, because its authors may publish neither of the latter."""
    is_whole = published.checksum.startswith("sha256:") and len(published.checksum) == len("sha256:") + 64
    checksum = published.checksum if is_whole else f"sha256:{_digest(file, 'sha256')}"
    record = {"address": published.address, "bytes": file.stat().st_size, "checksum": checksum}
    try:
        write_text(_record_file(file), json.dumps(record, indent=1) + "\n")
    except OSError:
        # The cache may be a folder that this user can only read.
        logger.debug("%s cannot be written", _record_file(file))


def _recorded(file: Path, key: str) -> object:
    try:
        return json.loads(_record_file(file).read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError):
        return None


def _known_checksum(file: Path, published: PublishedFile) -> str:
    return published.checksum or str(_recorded(file, "checksum") or "")


def _fault_of_size(file: Path, published: PublishedFile) -> str:
    wanted = published.bytes if published.bytes is not None else _recorded(file, "bytes")
    found = file.stat().st_size
    return f"has {found} bytes, wanted {wanted}" if wanted is not None and found != wanted else ""


def _fault_of_checksum(file: Path, checksum: str) -> str:
    algorithm, _, wanted = checksum.partition(":")
    if not wanted:
        return ""
    found = _digest(file, algorithm)
    return "" if found.startswith(wanted) else f"has the {algorithm} {found}, wanted {wanted}"


def _digest(file: Path, algorithm: str) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()
