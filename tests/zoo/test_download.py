"""Files come whole and once, whatever server, connection and disk do."""

import errno
import io
import logging
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from insta_rtdetr.errors import UserError
from insta_rtdetr.zoo import cache as cache_module
from insta_rtdetr.zoo import download as download_module
from insta_rtdetr.zoo import fetch
from insta_rtdetr.zoo.cache import cache_folder, cached_path, is_cached, partial_bytes, verify
from insta_rtdetr.zoo.download import mirrored

from .server import serving

CONTENT = np.random.default_rng(0).bytes(20_000)
OTHER = CONTENT[::-1]
# Bytes before the connection is cut in each of the attempts that are made.
INTERRUPTED = (7_500, 0, 0)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(download_module, "PAUSES_SECONDS", (0, 0))


def ranges(server) -> list[str]:
    return [wanted for _, wanted in server.requests]


def files_in(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"}


def fails(published, *parts: str) -> str:
    """Assert that the file cannot be had, and that one line says why, from where, and where it can be put."""
    with pytest.raises(UserError) as caught:
        fetch(published)
    message = str(caught.value)
    for part in (*parts, mirrored(published.address), str(cached_path(published))):
        assert part in message, message
    assert "\n" not in message and not is_cached(published)
    return message


def test_a_file_is_downloaded_once(publish, server, cache):
    published = publish("m", CONTENT)
    file = fetch(published)
    assert file == cache / "m" / "m.pth" and file.read_bytes() == CONTENT
    assert fetch(published) == file and server.requests == [("/authors.org/weights/m.pth", "")]
    assert files_in(cache) == {"m.pth", "m.pth.json"}


def test_a_bar_is_drawn_in_a_terminal_alone(publish, monkeypatch):
    for is_terminal in (True, False):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_terminal=is_terminal: is_terminal)
        fetch(publish(f"m{is_terminal}", CONTENT))
        assert ("20.0k/20.0k" in sys.stderr.getvalue()) == is_terminal


def test_a_cut_connection_is_taken_up_again(publish, server):
    server.cuts = [7_500, 4_000, 300]
    assert fetch(publish("m", CONTENT)).read_bytes() == CONTENT
    assert ranges(server) == ["", "bytes=7500-", "bytes=11500-", "bytes=11800-"]


def test_an_interrupted_download_goes_on_in_the_next_call(publish, server, monkeypatch):
    published = publish("m", CONTENT)
    server.cuts = list(INTERRUPTED)
    fails(published, "cut after 7500 of 20000 bytes", "Try again")
    assert partial_bytes(published) == 7_500
    server.requests.clear()
    assert fetch(published).read_bytes() == CONTENT and ranges(server) == ["bytes=7500-"]
    assert partial_bytes(published) == 0


def test_a_server_without_ranges_gives_the_whole_file_again(publish, server):
    server.cuts, server.has_ranges = [7_500], False
    assert fetch(publish("m", CONTENT)).read_bytes() == CONTENT
    assert ranges(server) == ["", "bytes=7500-"]


@pytest.mark.parametrize("tag, changed", [('"second"', OTHER), ("", OTHER + b"more")])
def test_parts_of_different_files_are_not_joined(publish, server, tag, changed):
    server.cuts, server.tag = list(INTERRUPTED), tag and '"first"'
    fails(publish("m", CONTENT, checksum=""))
    server.tag = tag
    # Without a tag another size tells.
    assert fetch(publish("m", changed, checksum="")).read_bytes() == changed


def test_a_server_that_gives_another_part_than_asked_for_is_asked_for_all(publish, server):
    server.cuts, server.shift = [7_500], 1
    assert fetch(publish("m", CONTENT)).read_bytes() == CONTENT
    assert ranges(server) == ["", "bytes=7500-", ""]


def test_a_server_that_always_cuts_is_given_up(publish, server):
    server.cuts, server.has_ranges = [7_500, 6_000] * 50, False
    fails(publish("m", CONTENT))
    assert len(server.requests) == 3


def test_a_new_address_begins_anew(publish, server):
    server.cuts = list(INTERRUPTED)
    fails(publish("m", CONTENT))
    moved = publish("m", OTHER, address="https://authors.org/elsewhere/m.pth")
    server.requests.clear()
    assert fetch(moved).read_bytes() == OTHER and server.requests == [("/authors.org/elsewhere/m.pth", "")]


def test_a_part_longer_than_the_file_is_thrown_away(publish, server):
    server.cuts = list(INTERRUPTED)
    fails(publish("m", CONTENT))
    assert fetch(publish("m", CONTENT[:5_000])).read_bytes() == CONTENT[:5_000]
    assert ranges(server)[-2:] == ["bytes=7500-", ""]


def test_redirects_are_followed_with_the_range(publish, server):
    published = publish("m", CONTENT)
    server.files["/storage/object"] = server.files.pop("/authors.org/weights/m.pth")
    server.redirects["/authors.org/weights/m.pth"] = "/storage/object"
    server.cuts = [7_500]
    assert fetch(published).read_bytes() == CONTENT
    assert server.requests[-1] == ("/storage/object", "bytes=7500-")


def test_a_file_that_is_not_there_is_named(publish, server):
    published = publish("m", CONTENT)
    server.files.clear()
    fails(published, "404", "by hand")


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_server_that_refuses_is_named(publish, server, status):
    published = publish("m", CONTENT)
    server.status = status
    fails(published, str(status))
    assert len(server.requests) == 1


def test_without_a_server_the_line_says_so_at_once(publish, monkeypatch):
    published = publish("m", CONTENT)
    with serving() as gone:
        monkeypatch.setenv("INSTA_RTDETR_MIRROR", gone.address)
    monkeypatch.setattr(download_module, "PAUSES_SECONDS", (60,))
    fails(published, "no connection to 127.0.0.1", "refused")


def test_a_web_page_is_no_file(publish, server):
    published = publish("m", CONTENT, checksum="", bytes=None)
    server.content_type = "text/html; charset=utf-8"
    fails(published, "web page")


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_wrong_bytes_are_refused_and_not_kept(publish, cache, algorithm):
    published = publish("m", CONTENT, checksum=f"{algorithm}:0123456789")
    fails(published, f"has the {algorithm} ", "wanted 0123456789")
    assert files_in(cache) == set()


def test_a_wrong_size_is_refused_and_not_kept(publish, cache):
    # What a server gives for a file of Git LFS without its content.
    fails(publish("m", b"version https://git-lfs", bytes=704_168_764), "has 23 bytes, wanted 704168764")
    assert files_in(cache) == set()


def test_the_first_digits_of_a_checksum_are_enough(publish):
    whole = publish("m", CONTENT).checksum
    assert verify_of(publish("m", CONTENT, checksum=whole[:15])) == ""


def verify_of(published) -> str:
    fetch(published)
    return verify(published)


def test_a_disk_that_fills_up_keeps_what_there_is(publish, server, monkeypatch):
    published = publish("m", CONTENT)

    class FullFile(io.FileIO):
        def write(self, data: bytes) -> int:
            if self.tell() >= 5_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(download_module, "open", lambda file, mode: FullFile(file, mode), raising=False)
    fails(published, "No space left on device", "INSTA_RTDETR_CACHE")
    assert partial_bytes(published) == 5_000


def test_a_disk_that_is_too_small_is_named_before_the_download(publish, cache, monkeypatch):
    usage = download_module.shutil.disk_usage(cache.parent)._replace(free=5_000)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda folder: usage)
    fails(publish("m", CONTENT * 200), "4 MB are needed, 0 MB are free", "INSTA_RTDETR_CACHE")
    assert files_in(cache) == set()


def test_a_cache_that_cannot_be_written_is_named(publish, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INSTA_RTDETR_CACHE", str(tmp_path / "file" / "cache"))
    fails(publish("m", CONTENT), "Not a directory", "INSTA_RTDETR_CACHE")


@pytest.mark.parametrize("bytes_known", [True, False])
def test_a_cached_file_of_another_size_is_downloaded_again(publish, server, caplog, bytes_known):
    published = publish("m", CONTENT, **({} if bytes_known else {"bytes": None}))
    fetch(published).write_bytes(CONTENT[:100])
    assert not is_cached(published)
    with caplog.at_level(logging.WARNING):
        assert fetch(published).read_bytes() == CONTENT
    assert "has 100 bytes, wanted 20000: it is downloaded again" in caplog.text and len(server.requests) == 2


@pytest.mark.parametrize("checksum_known", [True, False])
def test_a_changed_byte_is_found_on_request(publish, checksum_known):
    published = publish("m", CONTENT, **({} if checksum_known else {"checksum": ""}))
    file = fetch(published)
    assert verify(published) == ""
    file.write_bytes(CONTENT[:-1] + b"?")
    assert fetch(published) == file and "sha256" in verify(published)


def put_by_hand(published, content: bytes) -> Path:
    file = cached_path(published)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("known", [{}, {"checksum": "", "bytes": None}])
def test_a_file_put_there_by_hand_is_used(publish, server, known):
    published = publish("m", CONTENT, **known)
    file = put_by_hand(published, CONTENT)
    assert fetch(published) == file and server.requests == [] and verify(published) == ""
    file.write_bytes(CONTENT[:-1])
    assert "wanted 20000" in verify(published)


def test_a_wrong_file_put_there_by_hand_is_replaced(publish, caplog):
    published = publish("m", CONTENT)
    file = put_by_hand(published, OTHER)
    assert fetch(published).read_bytes() == CONTENT
    assert f"{file} has the sha256" in caplog.text


def test_a_file_of_an_older_list_is_checked_again(publish, server):
    fetch(publish("m", CONTENT))
    moved = publish("m", OTHER, address="https://authors.org/elsewhere/m.pth")
    assert fetch(moved).read_bytes() == OTHER and len(server.requests) == 2


def test_a_shared_cache_that_may_only_be_read_serves(publish, server, monkeypatch):
    published = publish("m", CONTENT)
    put_by_hand(published, CONTENT)

    def read_only(*arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(cache_module, "write_text", read_only)
    assert fetch(published).read_bytes() == CONTENT and server.requests == []


def in_another_process(function, *arguments) -> multiprocessing.Process:
    # A fork, because a new Python takes seconds to import PyTorch.
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_two_processes_download_a_file_once(publish, server, caplog):
    published = publish("m", CONTENT)
    server.pause_seconds = 0.02
    other = in_another_process(fetch, published)
    wait_until(lambda: server.requests)
    with caplog.at_level(logging.INFO):
        assert fetch(published).read_bytes() == CONTENT
    other.join()
    assert other.exitcode == 0 and len(server.requests) == 1
    assert "Another process is downloading" in caplog.text


def test_a_process_that_is_killed_leaves_its_part_to_the_next(publish, server):
    published = publish("m", CONTENT)
    server.pause_seconds = 0.02
    other = in_another_process(fetch, published)
    wait_until(lambda: partial_bytes(published) >= 2_000)
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    server.pause_seconds = 0
    assert fetch(published).read_bytes() == CONTENT
    first, second = ranges(server)
    assert first == "" and int(second.removeprefix("bytes=").removesuffix("-")) >= 2_000


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    for variable in ("INSTA_RTDETR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/insta_rtdetr")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "insta_rtdetr"
    monkeypatch.setenv("INSTA_RTDETR_CACHE", "~/weights")
    assert cache_folder() == Path("/home/someone/weights")


def test_a_mirror_has_the_files_under_their_hosts(monkeypatch):
    address = "https://authors.org/weights/m.pth"
    monkeypatch.delenv("INSTA_RTDETR_MIRROR", raising=False)
    assert mirrored(address) == address
    monkeypatch.setenv("INSTA_RTDETR_MIRROR", "http://mirror.local/all/")
    assert mirrored(address) == "http://mirror.local/all/authors.org/weights/m.pth"
