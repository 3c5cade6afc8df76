"""The list of published weights, published.json."""

import difflib
import functools
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from insta_rtdetr.errors import UserError

LIST_FILE = Path(__file__).with_name("published.json")
# Prefix of the name of a published file in MODEL.WEIGHTS.
PREFIX = "published://"


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights that was published by the authors of a model or backbone.

    Attributes:
        name: unique name; that of the config if the weights belong to one.
        address: address of the download.
        licence: SPDX identifier of the licence of the publishing repository.
        file: file name; empty for the last part of the address.
        checksum: "sha256:" or "md5:" and hexadecimal digits, or the first of them; empty if not known.
        bytes: size of the file; None if not known.
        mask_ap: mask AP on COCO val2017 in percent; None if not published.
        box_ap: box AP on COCO val2017 in percent; None if not published.
        backbone: `backbone_name` of the backbone if the file has the weights of a backbone alone.
        note: remark for the reader of the list.
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
        """Return the file name."""
        return self.file or PurePosixPath(urlsplit(self.address).path).name


@functools.cache
def published_files() -> dict[str, PublishedFile]:
    """Return name -> file; those of models come first, then those of backbones."""
    content = json.loads(LIST_FILE.read_text(encoding="utf-8"))
    entries = content["models"] | content["backbones"]
    return {name: PublishedFile(name, **entry) for name, entry in entries.items()}


def configs_without_weights() -> list[str]:
    """Return the names of the COCO configs whose weights are not published."""
    return json.loads(LIST_FILE.read_text(encoding="utf-8"))["unpublished"]


def find_published(name: str) -> PublishedFile:
    """Return the published file of a name, which may begin with PREFIX.

    Raises:
        UserError: there is no such file.
    """
    name = name.removeprefix(PREFIX)
    if name not in published_files():
        nearest = difflib.get_close_matches(name, published_files(), n=1, cutoff=0.0)[0]
        raise UserError(
            f"No published weights are called {name!r}.  The nearest name is {nearest}; "
            "`insta-rtdetr models --all` lists all of them."
        )
    return published_files()[name]
