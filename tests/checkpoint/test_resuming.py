"""A run goes on from its last whole checkpoint, and says which ones are not."""

import os

import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.resuming import resumable
from insta_rtdetr.errors import CheckpointError, DamagedCheckpointError


class Counter:
    """Something that is trained beside the model, without which nothing is resumed."""

    def state_dict(self) -> dict:
        return {"count": 1}

    def load_state_dict(self, state: dict) -> None:
        assert state == {"count": 1}


@pytest.fixture
def run(tmp_path):
    """A model and the folder of its checkpoints after the iterations 1, 3 and 5; the weight is the iteration."""
    model = torch.nn.Linear(1, 1)
    checkpointer = Checkpointer(model, str(tmp_path), counter=Counter())
    for iteration in (1, 3, 5):
        torch.nn.init.constant_(model.weight, iteration)
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
    return model, tmp_path


def resume(folder) -> tuple[float, Checkpointer]:
    model = torch.nn.Linear(1, 1)
    checkpointer = Checkpointer(model, str(folder), counter=Counter())
    checkpointer.resume_or_load("", resume=True)
    return model.weight.item(), checkpointer


def test_the_last_one_is_taken_and_nothing_said(run):
    weight, checkpointer = resume(run[1])
    assert weight == 5 and checkpointer.damaged == [] and checkpointer.has_checkpoint()


def test_a_file_cut_off_is_named_and_the_one_before_it_taken(run):
    last = run[1] / "model_0000005.pth"
    last.write_bytes(last.read_bytes()[:500])
    weight, checkpointer = resume(run[1])
    assert weight == 3
    assert checkpointer.damaged == [f"{last} is cut off, expected a whole file of torch.save."]


def test_missing_files_are_passed_over(run):
    (run[1] / "model_0000005.pth").unlink()
    assert resume(run[1])[0] == 3
    (run[1] / "last_checkpoint").unlink()
    assert resume(run[1])[0] == 3


def test_weights_that_are_not_finite_are_passed_over_and_named(run):
    model, folder = run
    torch.nn.init.constant_(model.bias, float("inf"))
    Checkpointer(model, str(folder), counter=Counter()).save("model_final", iteration=6)
    weight, checkpointer = resume(folder)
    assert weight == 5 and "NaN or infinity in the tensor bias" in checkpointer.damaged[0]
    with pytest.raises(DamagedCheckpointError, match="tensor bias"):
        Checkpointer(torch.nn.Linear(1, 1)).load(str(folder / "model_final.pth"))


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(run):
    for file in run[1].glob("*.pth"):
        file.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"has no whole checkpoint: .*model_0000005.pth is cut off"):
        resume(run[1])


def test_who_writes_last_checkpoint_chooses(run):
    (run[1] / "last_checkpoint").write_text("model_0000001.pth")
    assert resume(run[1])[0] == 1


def test_a_checkpoint_that_was_killed_before_its_name_was_written_is_taken(run):
    tag = run[1] / "last_checkpoint"
    tag.write_text("model_0000003.pth")
    before = (run[1] / "model_0000005.pth").stat().st_mtime - 10
    os.utime(tag, (before, before))
    assert [file.name for file in resumable(run[1])] == [f"model_000000{number}.pth" for number in (5, 3, 1)]
    assert resume(run[1])[0] == 5


def test_an_empty_folder_has_none(tmp_path):
    assert resumable(tmp_path) == [] and not Checkpointer(torch.nn.Linear(1, 1), str(tmp_path)).has_checkpoint()


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(run, monkeypatch):
    def fail(content, file):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"model_final.pth cannot be written .*make room.*--resume"):
        Checkpointer(run[0], str(run[1])).save("model_final")
    assert resume(run[1])[0] == 5


def test_a_killed_loader_is_told_as_such_though_it_comes_while_saving(run, monkeypatch):
    def fail(content, file):
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        Checkpointer(run[0], str(run[1])).save("model_final")
