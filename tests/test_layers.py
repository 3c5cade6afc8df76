"""The layers of packages in pyproject.toml hold: no import runs up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter's verdict on the package in a folder."""
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "pyproject.toml"], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )  # fmt: skip


def test_no_import_runs_up_through_the_packages():
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "file, line",
    [
        ("errors.py", "from insta_rtdetr.engine import Trainer"),
        ("data/datasets.py", "def late():\n    from insta_rtdetr.dataset_tools.check import check_folder"),
        ("modeling/loss/matcher.py", "from ..head.denoising import Denoising"),
    ],
)
def test_an_import_that_runs_up_is_found(tmp_path, file, line):
    shutil.copytree(ROOT / "insta_rtdetr", tmp_path / "insta_rtdetr", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "insta_rtdetr" / file, "a") as source:
        source.write(f"\n\n{line}\n")
    found = lint(tmp_path)
    assert found.returncode == 1 and "BROKEN" in found.stdout
