"""The table of the script: one line for each fault, with how often it was tried and survived."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass
class Row:
    """A fault and what came of it.

    Attributes:
        fault: what was done.
        wanted: what counts as survived.
        tried, survived: how often.
        said: what the package said to it, or what was measured.
        failures: for each time that was not survived, what happened.
    """

    fault: str
    wanted: str
    tried: int = 0
    survived: int = 0
    said: str = ""
    failures: list[str] | None = None

    def add(self, wrong: str, said: str = "") -> "Row":
        """Count one attempt: survived if nothing is wrong."""
        self.tried += 1
        self.survived += not wrong
        if wrong:
            self.failures = [*(self.failures or []), wrong]
        self.said = self.said or said
        return self


# A fault that is still to be made: its name, which is unique in its section, and the function that makes it.
Step = tuple[str, Callable[[], Row]]


def as_markdown(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| fault | survived means | tried | survived | what was said |"
    yield "|---|---|---|---|---|"
    for row in rows:
        said = "; ".join([row.said, *(f"NOT SURVIVED: {failure}" for failure in (row.failures or [])[:3])])
        cells = row.fault, row.wanted, row.tried, row.survived, said.strip("; ")
        yield "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"
