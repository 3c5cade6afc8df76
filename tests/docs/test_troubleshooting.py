"""The messages on the page on troubleshooting are those of the code."""

import ast
import re
from collections.abc import Iterator

import pytest

from .blocks import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
MESSAGES = re.findall(r"^\| `(.+?)` \|", PAGE, flags=re.MULTILINE)


def strings(node: ast.AST) -> Iterator[str]:
    """The literals of a program; what an f-string puts in becomes "...", and white space one space."""
    for part in ast.walk(node):
        if isinstance(part, ast.JoinedStr):
            yield "".join(value.value if isinstance(value, ast.Constant) else "..." for value in part.values)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


@pytest.fixture(scope="module")
def literals() -> list[str]:
    files = [file for folder in ("insta_rtdetr", "demo", "tools") for file in (ROOT / folder).rglob("*.py")]
    return [" ".join(text.split()) for file in files for text in strings(ast.parse(file.read_text()))]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_of_the_code(message, literals):
    parts = [part.strip() for part in message.split("...") if part.strip()]
    pattern = re.compile(".*".join(map(re.escape, parts)))
    assert parts and any(pattern.search(text) for text in literals)


def test_there_are_messages():
    assert len(MESSAGES) > 15
