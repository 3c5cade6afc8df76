"""Make faults on purpose and write the tables of what came of them.

    python -m tests.faults --report faults.md                 all sections, about half an hour on one core
    python -m tests.faults --report faults.md kills web       some of them

The report is written anew after each fault.  What was done is kept beside it, in faults.md.jsonl: given again, the
command goes on where it was stopped; without that file it begins anew.  Some faults need root, because file systems are
mounted.  docs/reliability.md has the tables.
"""

import argparse
import dataclasses
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import torch

from insta_rtdetr.atomic import write_text

from .table import Row, Step, as_markdown

# Module -> title of its table.
SECTIONS = {
    "kills": "Kills, signals and disks", "datasets": "Datasets", "checkpoints": "Files of weights and configs",
    "web": "Web server", "numerics": "Numerics and the machine",
}  # fmt: skip


class Report:
    """The rows of all runs so far.

    Attributes:
        rows: section -> name of the step -> its row.
        seconds: time that all steps took, and that this process and its children computed.
    """

    def __init__(self, file: Path) -> None:
        """Read what earlier runs have done."""
        self.file, self._journal = file, file.with_name(f"{file.name}.jsonl")
        self.rows: dict[str, dict[str, Row]] = {name: {} for name in SECTIONS}
        self.seconds = [0.0, 0.0]
        for line in self._journal.read_text().splitlines() if self._journal.exists() else ():
            entry = json.loads(line)
            self._count(entry["section"], entry["step"], Row(**entry["row"]), entry["seconds"])

    def add(self, section: str, step: str, row: Row, seconds: list[float]) -> None:
        """Add a row; the report is written anew."""
        self._count(section, step, row, seconds)
        entry = {"section": section, "step": step, "row": dataclasses.asdict(row), "seconds": seconds}
        with open(self._journal, "a") as journal:
            journal.write(json.dumps(entry) + "\n")
        self.write()

    def _count(self, section: str, step: str, row: Row, seconds: list[float]) -> None:
        self.rows[section][step] = row
        self.seconds = [before + more for before, more in zip(self.seconds, seconds)]

    def write(self) -> None:
        """Write the tables."""
        minutes, computed = (f"{value / 60:.1f}" for value in self.seconds)
        lines = [f"Made in {minutes} minutes, in {computed} minutes of computing.", ""]
        for section, rows in self.rows.items():
            lines += [f"## {SECTIONS[section]}", "", *as_markdown(rows.values()), ""] if rows else []
        write_text(self.file, "\n".join(lines))

    @property
    def is_survived(self) -> bool:
        """Whether everything was."""
        return all(row.survived == row.tried for rows in self.rows.values() for row in rows.values())


def main(arguments: list[str] | None = None) -> int:
    """Make the faults that the report lacks; the exit code is 1 if anything was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, required=True, metavar="FILE", help="Markdown file of the tables")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)} (default: all)")
    args = parser.parse_args(arguments)
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"there are no {', '.join(unknown)}")
    torch.set_num_threads(1)
    report = Report(args.report)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        for section in args.sections or SECTIONS:
            with closing(importlib.import_module(f"tests.faults.{section}").steps(folder / section)) as steps:
                run(section, steps, report, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.write()
    return int(not report.is_survived)


def run(section: str, steps: Iterator[Step], report: Report, folder: Path) -> None:
    """Make the faults of a section that the report lacks."""
    for name, step in steps:
        if name in report.rows[section]:
            continue
        start, computed = time.monotonic(), processor_seconds()
        row = step()
        row.said = row.said.replace(str(folder), "...")
        row.failures = [failure.replace(str(folder), "...") for failure in row.failures or []]
        report.add(section, name, row, [time.monotonic() - start, processor_seconds() - computed])
        sys.stderr.write(f"{section}: {row.survived} of {row.tried}  {row.fault}\n")


def processor_seconds() -> float:
    """Computing time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(main())
