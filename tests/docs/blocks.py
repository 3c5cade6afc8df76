"""The code blocks of the documentation, and what comments before them say.

A comment stands on the lines before a block:

    <!-- not run: reason -->    needs a GPU, the internet, a webcam, or data that is not in the repository
    <!-- slow -->               is run by `make docs-test` alone
    <!-- fails -->              the last command ends with another exit code than 0
    <!-- background: URL -->    serves that address until the page is done
    <!-- file: NAME -->         is the content of a file, which blocks behind it use

Blocks of `bash` and `python` are run; `text` is the output of the block before; `plain`, `yaml` and so on are neither.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
RUN_LANGUAGES = ("bash", "python")
OUTPUT_LANGUAGE = "text"
OTHER_LANGUAGES = ("plain", "yaml", "json")
MARKS = ("not run", "slow", "fails", "background", "file")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)")
_COMMENT = re.compile(r"^\s*<!--\s*(?P<mark>[a-z ]+?)\s*(?::\s*(?P<value>.*?))?\s*-->\s*$")


@dataclass
class Block:
    """A code block.

    Attributes:
        page: path in the repository.
        line: number of its first line, from 1.
        language: what follows the fence.
        text: its lines.
        marks: what the comments before it say.
    """

    page: str
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Page and line, as editors take them."""
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether it is run, at least by `make docs-test`."""
        return self.language in RUN_LANGUAGES and "not run" not in self.marks


def pages() -> list[str]:
    """Return the paths of all pages in the repository."""
    files = [ROOT / name for name in ("README.md", "INSTALL.md", "CONTRIBUTING.md", "datasets/README.md")]
    return [str(file.relative_to(ROOT)) for file in [*files, *sorted((ROOT / "docs").rglob("*.md"))]]


def blocks_of(page: str) -> list[Block]:
    """Return the code blocks of a page."""
    return list(parse((ROOT / page).read_text(encoding="utf-8"), page))


def parse(markdown: str, page: str) -> Iterator[Block]:
    """Yield the code blocks of a page's text.

    Raises:
        ValueError: a fence is not closed.
    """
    block, indent = None, ""
    marks: dict[str, str] = {}
    lines: list[str] = []
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = _FENCE.match(line)
        if block is None and fence:
            block, indent = Block(page, number + 1, fence["language"], "", marks), fence["indent"]
            marks, lines = {}, []
        elif block is not None and line.rstrip() == f"{indent}```":
            block.text = dedent("\n".join(lines)) + "\n"
            yield block
            block = None
        elif block is not None:
            lines.append(line)
        elif comment := _COMMENT.match(line):
            marks[comment["mark"]] = comment["value"] or ""
        elif line.strip():
            marks = {}
    if block is not None:
        raise ValueError(f"{block.place}: the code block is not closed.")


def not_run() -> list[str]:
    """Return a line for each block that no test runs, with the reason."""
    found = [block for page in pages() for block in blocks_of(page) if block.marks.get("not run")]
    return [f"{block.place}: {block.marks['not run']}" for block in found]
