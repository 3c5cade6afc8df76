"""Lines of a report, which the doctor and the dataset check share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Line of a report.

    Attributes:
        status: "ok", "note" or "FAIL".
        text: what was found.
        remedy: the command or step that corrects a failure.
    """

    status: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.status:<5} {self.text}" + (f". {self.remedy}" if self.remedy else "")


def ok(text: str) -> Finding:
    """Report something that works."""
    return Finding("ok", text)


def note(text: str) -> Finding:
    """Report something worth knowing that is no failure."""
    return Finding("note", text)


def fail(text: str, remedy: str) -> Finding:
    """Report something that must be corrected, and how."""
    return Finding("FAIL", text.rstrip("."), remedy)


def one_line(error: BaseException) -> str:
    """Return the type and the message of an exception, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
