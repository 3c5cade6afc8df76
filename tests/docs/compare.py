"""Whether a program printed what the documentation shows, figures aside."""

import re

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Figures and paths differ from machine to machine.
_NUMBER = re.compile(r"(?<![A-Za-z_\d])[-+]?\d[\d.,:]*(?:e[-+]?\d+)?")
_PATH = re.compile(r"(?<![\w.])/[\w.+-]+(?:/[\w.+-]+)*")
_RULE = re.compile(r"[-─═━=]{3,}")
# A shown line that stands for any number of lines.
ANYTHING = "..."


def differing_line(shown: str, printed: str) -> str | None:
    """Return the first shown line that was not printed behind those before it; None if all were.

    Args:
        shown: the output in the documentation, of which a line "..." stands for any lines.
        printed: the output of the program; lines that are not shown do not count.
    """
    rest = iter(essence(printed))
    for line in essence(shown):
        if line != ANYTHING and line not in rest:
            return line
    return None


def essence(text: str) -> list[str]:
    """Return the lines of a text without figures, paths, colours, rules' lengths and amounts of space."""
    lines = [line for whole in text.splitlines() for line in [_ESCAPES.sub("", whole.rpartition("\r")[2])]]
    return [reduced for line in lines if (reduced := _essence_of_line(line))]


def _essence_of_line(line: str) -> str:
    line = _RULE.sub("-", _NUMBER.sub("0", _PATH.sub("/PATH", line)))
    return " ".join(line.split())
