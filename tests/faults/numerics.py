"""Trainings that diverge, and a machine that takes their loader's processes or its shared memory away."""

import ctypes
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.tiny import SMALL

from .kills import NO_EVALUATION
from .table import Row, Step
from .training import Trainings, weights_of, whole_checkpoints

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of unshare(2)
LOADER = {"DATALOADER__NUM_WORKERS": 2, **NO_EVALUATION}


def steps(folder: Path) -> Iterator[Step]:
    """Yield all faults.

    Args:
        folder: for files.
    """
    trainings = Trainings(folder)
    for fault in (divergence, killed_loader, full_shared_memory):
        yield fault.__name__, partial(fault, trainings)


def divergence(trainings: Trainings) -> Row:
    """A real model, small, whose learning rate becomes 1,000 after 20 iterations."""
    row = Row("SOLVER.BASE_LR 1e3 after 20 good iterations, gradients clipped and not",
              "one line with advice; the checkpoint after 20 iterations stays, and is finite")  # fmt: skip
    for is_clipped in (True, False):
        output = trainings.folder / f"diverged_{is_clipped}"
        settings = {"SOLVER__BASE_LR": 1e-4, "SOLVER__GAMMA": 1e7, "SOLVER__STEPS": (20,), "SOLVER__MAX_ITER": 200,
                    "SOLVER__CHECKPOINT_PERIOD": 10, "SOLVER__CLIP_GRADIENTS__ENABLED": is_clipped}  # fmt: skip
        settings |= {"MODEL__META_ARCHITECTURE": "InstaRTDETR"} | NO_EVALUATION
        diverged = trainings.start(output, "--config-file", "insta_rtdetr_R18vd_D3_640", *SMALL, **settings)
        code, said = diverged.wait(180), diverged.last_line
        kept = sorted(whole_checkpoints(output).values())
        is_right = code == 1 and "Lower SOLVER.BASE_LR" in said and 20 in kept
        is_right = is_right and all(value.isfinite().all() for value in weights_of(output, "model_0000019").values())
        row.add("" if is_right else f"exit code {code}, checkpoints after {kept}: {said}", said)
    return row


def killed_loader(trainings: Trainings, times: int = 5) -> Row:
    """SIGKILL to a process of the loader, as the kernel does when the memory is full."""
    row = Row("SIGKILL to a process of the data loader", "one line with advice; the run goes on with --resume")
    for number in range(times):
        output = trainings.folder / f"loader_{number}"
        training = trainings.start(output, SOLVER__MAX_ITER=100_000, **LOADER)
        while training.iterations_done < 10 + 7 * number and training.is_alive:
            time.sleep(0.001)
        children = Path(f"/proc/{training.pid}/task/{training.pid}/children").read_text().split()
        subprocess.run(["kill", f"-{signal.SIGKILL.value}", children[0]], check=True)
        code, said = training.wait(), training.last_line
        last = max(whole_checkpoints(output).values())
        resumed = trainings.start(output, "--resume", SOLVER__MAX_ITER=last + 3, **LOADER)
        is_right = code == 1 and "DATALOADER.NUM_WORKERS" in said and resumed.wait() == 0
        row.add("" if is_right else f"exit code {code}: {said}", said)
    return row


def _small_shared_memory() -> None:
    """Give this process a /dev/shm of its own, of 16 KiB."""
    ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "/dev/shm"], check=True)


def full_shared_memory(trainings: Trainings) -> Row:
    """A /dev/shm that is smaller than a batch."""
    row = Row("/dev/shm of 16 KiB", "one line with advice")
    full = trainings.start(trainings.folder / "shm", before=_small_shared_memory, **LOADER)
    code = full.wait()
    said = next((line for line in full.said.splitlines() if line.startswith("error: ")), full.last_line)
    return row.add("" if code == 1 and "/dev/shm" in said else f"exit code {code}: {said}", said)
