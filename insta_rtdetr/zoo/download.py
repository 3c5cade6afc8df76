"""Downloads that are resumed after an interruption.

iopath, torch.hub and pooch restart an interrupted download from the beginning, and huggingface_hub downloads only from
its own addresses.
"""

import http.client
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

MIRROR_VARIABLE = "INSTA_RTDETR_MIRROR"
CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30
# Pauses before the next attempts after a download that made progress and was interrupted.
PAUSES_SECONDS = (0.5, 2, 8)


class DownloadError(Exception):
    """Raised if the server does not return the file; the message is the reason."""


class _InterruptedError(DownloadError):
    """Raised if the download was interrupted and may be resumed."""


class _ChangedError(DownloadError):
    """Raised if the partial file is not a part of the server's file."""


def mirrored(address: str) -> str:
    """Return the address, or that of the same file on the mirror INSTA_RTDETR_MIRROR if it is set.

    With INSTA_RTDETR_MIRROR=https://mirror.org/weights, https://a.org/b.pth becomes
    https://mirror.org/weights/a.org/b.pth.
    """
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return f"{mirror}/{address.partition('://')[2]}" if mirror else address


def download(address: str, partial: Path, title: str) -> None:
    """Download a file, or the rest of it, with a progress bar if there is a terminal.

    Args:
        address: http or https address.
        partial: path of the file; it is kept if the download fails, with a second file that describes the download.
        title: title of the progress bar.

    Raises:
        DownloadError: the server cannot be reached or does not return the file.
        OSError: the file cannot be written.
    """
    pauses: list[float] = []
    largest = _size(partial)
    while True:
        try:
            _download_rest(address, partial, title)
            return
        except _ChangedError:
            remove_partial(partial)
        except _InterruptedError:
            if _size(partial) > largest:
                pauses = list(PAUSES_SECONDS)
            if not pauses:
                raise
            time.sleep(pauses.pop(0))
        largest = max(largest, _size(partial))


def _download_rest(address: str, partial: Path, title: str) -> None:
    part_of = _read_description(partial)
    if part_of.get("address") != address:
        partial.unlink(missing_ok=True)
        part_of = {}
    offset = _size(partial)
    if offset and offset == part_of.get("bytes"):
        return
    with _open(address, offset, part_of.get("validator")) as response:
        if response.status == 200:
            offset = 0  # the server does not support ranges, or its file has changed
        total = _total_bytes(response, offset)
        if offset and not (total == part_of.get("bytes") and _begins_at(offset, response)):
            raise _ChangedError
        _check_space(partial, total, offset)
        if not offset:
            _write_description(partial, {"address": address, "bytes": total, "validator": _validator(response)})
        with (
            open(partial, "ab" if offset else "wb") as file,
            tqdm(total=total, initial=offset, desc=title, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in _chunks(response):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(partial) < total:
        raise _InterruptedError(f"the connection was cut after {_size(partial)} of {total} bytes")


def _open(address: str, offset: int, validator: str | None) -> Any:
    headers = {"User-Agent": "insta_rtdetr"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    if offset and validator:
        headers["If-Range"] = validator
    try:
        response = urlopen(Request(address, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _open(address, 0, None)
        raise DownloadError(f"the server answers {error.code} {error.reason}") from error
    except ValueError as error:
        raise DownloadError(f"this is no address: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error or type(error).__name__
        raise _InterruptedError(f"no connection to {urlsplit(address).netloc}: {reason}") from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise DownloadError("the server answers with a web page in place of the file")
    return response


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _InterruptedError(f"the connection was cut: {error or type(error).__name__}") from error
        if not chunk:
            return
        yield chunk


def _total_bytes(response: Any, offset: int) -> int | None:
    """Return the size of the whole file, or None if the server does not state it."""
    if response.status == 206:
        # "bytes 100-199/200", or "*" for an unknown size.
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length")
    return int(length) + offset if length else None


def _begins_at(offset: int, response: Any) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _validator(response: Any) -> str | None:
    """Return the header that identifies this version of the file, or None."""
    tag = response.headers.get("ETag", "")
    # Files with the same weak tag may differ in their bytes.
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _check_space(partial: Path, total: int | None, offset: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if total is not None and total - offset > free:
        raise OSError(f"{(total - offset) / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free on this disk")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _description_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _read_description(partial: Path) -> dict[str, Any]:
    try:
        return json.loads(_description_file(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_description(partial: Path, description: dict[str, Any]) -> None:
    partial.unlink(missing_ok=True)
    _description_file(partial).write_text(json.dumps(description), encoding="utf-8")


def remove_partial(partial: Path) -> None:
    """Remove the files that `download` made."""
    partial.unlink(missing_ok=True)
    _description_file(partial).unlink(missing_ok=True)
