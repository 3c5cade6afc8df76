"""Make faults on purpose and print the table of what came of them.

    python -m tests.faults                 all sections, about half an hour on one core
    python -m tests.faults kills web       some of them

Some faults need root: file systems are mounted.  docs/reliability.md has the table.
"""

import importlib
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from .table import Row, as_markdown

SECTIONS = ("kills", "datasets", "checkpoints", "web", "numerics")


def main(names: list[str]) -> int:
    """Run sections and print their tables; the exit code is 1 if anything was not survived."""
    torch.set_num_threads(1)
    rows: dict[str, list[Row]] = {}
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        for name in names or SECTIONS:
            rows[name] = []
            for row in importlib.import_module(f"tests.faults.{name}").run(folder / name):
                rows[name].append(row)
                sys.stderr.write(f"{name}: {row.survived} of {row.tried}  {row.fault}\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, found in rows.items():
        print(f"## {name}\n")
        print("\n".join(as_markdown(found)).replace(str(folder), "..."), end="\n\n")
    return int(any(row.survived < row.tried for found in rows.values() for row in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
