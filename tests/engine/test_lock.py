"""Tests that two trainings cannot use one folder, and that a killed one leaves no lock."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from insta_rtdetr.engine.lock import check_unlocked, locked
from insta_rtdetr.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
# Locks the folder and starts a child, like a process of a loader, which outlives it.
HOLDER = """
import os, sys, time
from insta_rtdetr.engine.lock import locked
with locked(sys.argv[1]):
    if os.fork():
        print("locked", flush=True)
    time.sleep(20)
"""


def test_the_second_is_refused_with_the_number_of_the_first(tmp_path):
    with locked(tmp_path / "out"):
        for attempt in (lambda: locked(tmp_path / "out").__enter__(), lambda: check_unlocked(tmp_path / "out")):
            with pytest.raises(UserError, match=r"Another training \(process \d+\) is running in OUTPUT_DIR .*out"):
                attempt()
    check_unlocked(tmp_path / "out")
    with locked(tmp_path / "out"):
        pass


def test_a_check_writes_nothing(tmp_path):
    check_unlocked(tmp_path / "absent")
    check_unlocked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_gone_though_its_child_lives(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    )
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"process {holder.pid}"):
            check_unlocked(tmp_path)
        started = time.monotonic()
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            assert time.monotonic() - started < 5
    finally:
        holder.kill()
        holder.stdout.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"OUTPUT_DIR cannot be written to: .*file"), locked(tmp_path / "file" / "out"):
        pass
