"""A list of published files on a server of the test, and an empty cache."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from insta_rtdetr.zoo import PublishedFile, find_published, published, published_files
from insta_rtdetr.zoo.cache import CACHE_VARIABLE
from insta_rtdetr.zoo.download import MIRROR_VARIABLE

from .server import FileServer, serving

Publish = Callable[..., PublishedFile]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def server(monkeypatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        monkeypatch.setenv(MIRROR_VARIABLE, server.address)
        yield server


@pytest.fixture
def publish(server, cache, tmp_path, monkeypatch) -> Iterator[Publish]:
    """publish(name, content, **entry) puts a file on the server and into the list: what the real list says of the name,
    but for size and checksum, which are the content's; `entry` is more to change."""
    list_file = tmp_path / "published.json"
    content = json.loads(published.LIST_FILE.read_text())
    monkeypatch.setattr(published, "LIST_FILE", list_file)

    def publish(name: str, data: bytes, **entry: object) -> PublishedFile:
        section = content["backbones" if name in content["backbones"] else "models"]
        found = section.setdefault(name, {"address": f"https://authors.org/weights/{name}.pth", "licence": "MIT"})
        algorithm = (found.get("checksum") or "sha256:").partition(":")[0]
        found |= {"checksum": f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}", "bytes": len(data)} | entry
        list_file.write_text(json.dumps(content))
        published_files.cache_clear()
        server.files[f"/{found['address'].removeprefix('https://')}"] = data
        return find_published(name)

    published_files.cache_clear()
    list_file.write_text(json.dumps(content))
    yield publish
    published_files.cache_clear()
