"""A small part of each section of the script, which takes too long for every run of the tests."""

import pytest

from insta_rtdetr.errors import UserError

from . import checkpoints, datasets, hostile_files, kills, web
from .table import Row, as_markdown
from .training import Trainings

# They take seconds each.
SLOW = ("zip bomb", "nested lists", "doubled")


def survived(row: Row) -> None:
    assert row.tried and row.survived == row.tried, row.failures


def test_a_killed_training_goes_on(tmp_path):
    survived(kills.kills(Trainings(tmp_path), 1, share_evaluated=0))


def test_a_broken_dataset_is_refused_at_every_step(tmp_path):
    (row,) = datasets.run(tmp_path, ("crowds alone",))
    survived(row)


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
