"""The list of weights that authors publish: published.json."""

import difflib
import functools
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from insta_rtdetr.errors import UserError

LIST_FILE = Path(__file__).with_name("published.json")
# Before the name of a published file, in MODEL.WEIGHTS.
PREFIX = "published://"


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights, as its authors publish it.

    Attributes:
        name: unique; that of a config if the weights belong to one.
        address: where it can be downloaded.
        licence: of the repository that publishes it, as SPDX writes it.
        file: what it is called; empty for the last part of the address.
        checksum: "sha256:" or "md5:" and hexadecimal digits, of which the last ones may be missing; empty if not known.
        bytes: its size; None if not known.
        mask_ap: on COCO val2017, percent; None if not published.
        box_ap: likewise.
        backbone: in words of `backbone_name`, where the file holds weights of a backbone alone.
        note: for people.
    """

    name: str
    address: str
    licence: str
    file: str = ""
    checksum: str = ""
    bytes: int | None = None
    mask_ap: float | None = None
    box_ap: float | None = None
    backbone: str = ""
    note: str = ""

    @property
    def file_name(self) -> str:
        """What the file is called."""
        return self.file or PurePosixPath(urlsplit(self.address).path).name


@functools.cache
def published_files() -> dict[str, PublishedFile]:
    """Name -> file: first those of models, then those of backbones."""
    content = json.loads(LIST_FILE.read_text(encoding="utf-8"))
    entries = content["models"] | content["backbones"]
    return {name: PublishedFile(name, **entry) for name, entry in entries.items()}


def configs_without_weights() -> list[str]:
    """Names of the configs of COCO whose weights nobody publishes."""
    return json.loads(LIST_FILE.read_text(encoding="utf-8"))["unpublished"]


def find_published(name: str) -> PublishedFile:
    """The file of a name, with or without PREFIX before it.

    Raises:
        UserError: there is none.
    """
    name = name.removeprefix(PREFIX)
    if name not in published_files():
        nearest = difflib.get_close_matches(name, published_files(), n=1, cutoff=0.0)[0]
        raise UserError(
            f"No published weights are called {name!r}.  The nearest name is {nearest}; "
            "`insta-rtdetr models --all` lists all of them."
        )
    return published_files()[name]
