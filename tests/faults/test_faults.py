"""A small part of each section of the script, which takes too long for every run of the tests."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from insta_rtdetr.errors import UserError

from . import __main__ as script
from . import checkpoints, hostile_files, web
from .table import Row, as_markdown

# They take seconds each.
SLOW = ("zip bomb", "nested lists", "doubled")


def survived(row: Row) -> None:
    assert row.tried and row.survived == row.tried, row.failures


# In a process of its own: PyTorch's gradients do not survive a fork where some have been computed before.
TRAININGS = """
import sys
from pathlib import Path
from tests.faults import datasets, kills
from tests.faults.test_faults import survived
from tests.faults.training import Trainings

folder = Path(sys.argv[1])
survived(kills.kills(Trainings(folder / "kills"), 1, share_evaluated=0))
((name, step),) = datasets.steps(folder / "datasets", ("crowds alone",))
survived(step())
"""


def test_a_killed_training_goes_on_and_a_broken_dataset_is_refused_at_every_step(tmp_path):
    for name in ("kills", "datasets"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", TRAININGS, str(tmp_path)], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_hostile_checkpoints_are_one_error_and_run_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(hostile_files, "zip_bomb", lambda file: file.touch())
    monkeypatch.setattr(hostile_files, "DEEP", 10)
    marker = tmp_path / "ran"
    for what, file in hostile_files.write_checkpoints(tmp_path, marker):
        if not any(slow in what for slow in SLOW):
            with pytest.raises(UserError):
                checkpoints.open_checkpoint(str(file))
    assert not marker.exists()


def test_uploads_at_once_are_answered_or_refused(tmp_path):
    server = web.Server(tmp_path)
    try:
        for fault in (web.uploads_at_once, web.leaving, web.foreign):
            survived(fault(server, web.small_image()))
    finally:
        server.end()


def test_the_table_names_what_was_not_survived():
    row = Row("a | fault", "wanted").add("", "said").add("it broke")
    assert list(as_markdown([row]))[2] == "| a \\| fault | wanted | 2 | 1 | said; NOT SURVIVED: it broke |"


def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch):
    done, interruptions = [], [KeyboardInterrupt]

    def steps(folder):
        for name in ("first", "second", "third"):
            yield name, lambda name=name: done.append(name) or Row(name, "wanted").add("", f"{folder} {len(done)}")
            if name == "second" and interruptions:
                raise interruptions.pop()

    monkeypatch.setattr(script.importlib, "import_module", lambda name: SimpleNamespace(steps=steps))
    report = tmp_path / "faults.md"
    with pytest.raises(KeyboardInterrupt):
        script.main(["--report", str(report), "web"])
    assert script.main(["--report", str(report), "web"]) == 0 and done == ["first", "second", "third"]
    assert [line for line in report.read_text().splitlines() if "wanted" in line] == [
        f"| {name} | wanted | 1 | 1 | .../web {number} |" for number, name in enumerate(done, start=1)
    ]
