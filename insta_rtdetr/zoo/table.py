"""The table of all models and its filters."""

import difflib
import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tabulate import tabulate

from insta_rtdetr.errors import UserError

from .cache import is_cached, partial_bytes
from .configs import config_files
from .published import PREFIX, PublishedFile, published_files
from .weights import published_weights

# Parameters, GFLOPs and input of each config; tools/measure_models.py writes it.
MEASURED_FILE = Path(__file__).with_name("measured.json")
_HEADERS = (
    "name", "mask AP", "box AP", "parameters, M", "GFLOPs", "input", "backbone", "weights", "licence",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Attributes:
        name: name of a config, or of a published file without a config.
        published: the published file, or None.
        weights: description of where the weights are.
        backbone: description of the backbone; empty if not known.
        parameters: number of parameters; None if not known.
        gflops: multiply-adds of the network in units of 1e9; None if not known.
        input: (height, width) in pixels of the network's input for an image of 480 x 640; empty if not known.
    """

    name: str
    published: PublishedFile | None
    weights: str
    backbone: str = ""
    parameters: int | None = None
    gflops: float | None = None
    input: tuple[int, ...] = ()


@functools.cache
def measurements() -> dict[str, dict]:
    """Return name of a config -> its measurements by tools/measure_models.py."""
    return json.loads(MEASURED_FILE.read_text(encoding="utf-8"))


def models(with_others: bool = False) -> list[Model]:
    """Return the rows of all configs, sorted by name.

    Args:
        with_others: whether published files without a config, such as those of backbones, follow.
    """
    files = published_files()
    names = sorted(config_files()) + ([name for name in files if name not in config_files()] if with_others else [])
    return [_model(name, files.get(name)) for name in names]


def _model(name: str, published: PublishedFile | None) -> Model:
    measured = measurements().get(name, {})
    backbone = measured.get("backbone") or (published.backbone if published else "")
    return Model(
        name, published, _state_of_weights(name, published), backbone,
        measured.get("parameters"), measured.get("gflops"), tuple(measured.get("input", ())),
    )  # fmt: skip


def _state_of_weights(name: str, published: PublishedFile | None) -> str:
    if published is None:
        address = published_weights(str(config_files()[name]))
        return "in this package" if address and not address.startswith(PREFIX) else "none published"
    size = f", {published.bytes / 1e6:.0f} MB" if published.bytes else ""
    if is_cached(published):
        return f"cached{size}"
    begun = partial_bytes(published)
    return f"{begun / 1e6:.0f} MB downloaded{size.replace(', ', ' of ')}" if begun else f"not cached{size}"


def select(candidates: Iterable[str], patterns: Iterable[str], by_parts: bool = False) -> list[str]:
    """Return the names that match one of the patterns, in the order of `candidates`, or all if there are no patterns.

    Args:
        candidates: the names.
        patterns: names, or patterns with * and ? that match whole names.
        by_parts: whether a pattern without * and ? may match a part of a name.

    Raises:
        UserError: a pattern matches no name.
    """
    candidates, patterns = list(candidates), [pattern.lower() for pattern in patterns]
    if by_parts:
        patterns = [pattern if any(letter in pattern for letter in "*?[") else f"*{pattern}*" for pattern in patterns]
    for pattern in patterns:
        if not any(fnmatchcase(name.lower(), pattern) for name in candidates):
            nearest = difflib.get_close_matches(pattern, candidates, n=1, cutoff=0.0)[0]
            raise UserError(
                f"No name matches {pattern.strip('*')}.  The nearest is {nearest}; "
                "`insta-rtdetr models --all` lists all of them."
            )
    return [
        name for name in candidates if not patterns or any(fnmatchcase(name.lower(), pattern) for pattern in patterns)
    ]


def below(value: float | None, limit: float | None) -> bool:
    """Return whether a value does not exceed a limit; unknown values exceed every limit."""
    return limit is None or (value is not None and value <= limit)


def to_table(rows: list[Model]) -> str:
    """Format the rows as a table of text."""
    return tabulate([_cells(row) for row in rows], _HEADERS, disable_numparse=True)


def _cells(row: Model) -> list[str]:
    def number(value: float | None, write: Callable[[float], str]) -> str:
        return "" if value is None else write(value)

    published = row.published
    return [
        row.name,
        number(published and published.mask_ap, "{:.1f}".format),
        number(published and published.box_ap, "{:.1f}".format),
        number(row.parameters, lambda count: f"{count / 1e6:.2f}"),
        number(row.gflops, "{:.1f}".format),
        " x ".join(str(side) for side in row.input),
        row.backbone,
        row.weights,
        published.licence if published else "",
    ]
