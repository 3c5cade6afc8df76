"""The lines of a report, of the doctor and of the dataset check."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of a report."""

    status: str  # "ok", "note" or "FAIL"
    text: str
    remedy: str = ""  # the command or step that mends a FAIL

    def __str__(self) -> str:
        return f"{self.status:<5} {self.text}" + (f". {self.remedy}" if self.remedy else "")


def ok(text: str) -> Finding:
    """Something that works."""
    return Finding("ok", text)


def note(text: str) -> Finding:
    """Something worth knowing that is no failure."""
    return Finding("note", text)


def fail(text: str, remedy: str) -> Finding:
    """Something that must be mended, and how."""
    return Finding("FAIL", text.rstrip("."), remedy)


def one_line(error: BaseException) -> str:
    """The kind and the message of an exception, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
