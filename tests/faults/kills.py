"""Trainings that are killed, stopped, or whose folder is full, locked, read-only or damaged."""

import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from .table import Row, Step
from .training import ITERATIONS, PERIOD, Training, Trainings, weights_of, whole_checkpoints, wrong_metrics

# Iterations in metrics.json, with evaluations and without.
RECORDS = {True: [19, 29, 39, 59, 60], False: [19, 29, 39, 59]}
NO_EVALUATION = {"DATASETS__TEST": ()}
UNFINISHED = ".*.unfinished"


def steps(folder: Path) -> Iterator[Step]:
    """Yield all faults.

    Args:
        folder: for files; it should be on a disk.
    """
    trainings = Trainings(folder)
    for part in range(4):
        yield f"kills {part + 1} of 4", partial(kills, trainings, 25, seed=part)
    for number in (signal.SIGTERM, signal.SIGINT):
        yield number.name, partial(signals, trainings, number, 20)
    for fault in (two_in_one_folder, full_tmpfs, full_quota, read_only):
        yield fault.__name__, partial(fault, trainings)
    for damage in (truncate, remove, remove_tag, poison):
        yield damage.__name__, partial(damaged, trainings, damage)


def kills(trainings: Trainings, number: int, share_evaluated: float = 0.25, seed: int = 0) -> Row:
    """SIGKILL at random moments: half of them at any, half while a file is being written."""
    row = Row(f"SIGKILL at a random moment, a checkpoint every {PERIOD} iterations",
              "resumed from a whole checkpoint, at most the iterations since lost, same weights at the end, metrics "
              "whole")  # fmt: skip
    rng, wanted, seconds = random.Random(seed), {}, {}
    for with_evaluation in (True, False) if share_evaluated else (False,):
        start = time.monotonic()
        output = trainings.folder / f"whole_{with_evaluation}_{seed}"
        whole = trainings.start(output, **_settings(with_evaluation))
        whole.wait()
        seconds[with_evaluation] = time.monotonic() - start
        wanted[with_evaluation] = weights_of(whole.output)
    lost, num_saving = [], 0
    while row.tried < number:
        with_evaluation = rng.random() < share_evaluated
        output = trainings.folder / f"killed_{seed}_{row.tried}"
        killed = trainings.start(output, **_settings(with_evaluation))
        was_saving = _kill(killed, rng, seconds[with_evaluation])
        if killed.wait() == -signal.SIGKILL:
            num_saving += was_saving
            lost.append(0)
            row.add(_wrong_after_kill(trainings, killed, with_evaluation, wanted[with_evaluation], lost))
        shutil.rmtree(output, ignore_errors=True)
    row.said = f"{num_saving} killed while a file was written; lost at most {max(lost)} iterations"
    return row


def _settings(with_evaluation: bool) -> dict:
    return {} if with_evaluation else NO_EVALUATION


def _kill(training: Training, rng: random.Random, seconds: float) -> bool:
    """Kill a training; return whether it was writing a file."""
    end = time.monotonic() + rng.uniform(0, seconds)
    while time.monotonic() < end and training.is_alive:
        time.sleep(0.001)
    is_at_any_moment = rng.random() < 0.5
    while training.is_alive:
        is_saving = any(training.output.glob(UNFINISHED))
        if is_saving or is_at_any_moment:
            training.send(signal.SIGKILL)
            return is_saving
    return False


def _wrong_after_kill(
    trainings: Trainings, killed: Training, with_evaluation: bool, wanted: dict[str, torch.Tensor], lost: list[int]
) -> str:
    try:
        last = max(whole_checkpoints(killed.output).values(), default=0)
    except Exception as error:
        return f"a broken checkpoint: {error}"
    resumed = trainings.start(killed.output, "--resume", **_settings(with_evaluation))
    code = resumed.wait()
    if code != 0:
        return f"exit code {code}: {resumed.last_line}"
    log = (killed.output / "log.txt").read_text()
    begun = int(log.rpartition("Starting training from iteration ")[2].split()[0])
    lost[-1] = killed.iterations_done - begun
    if lost[-1] > PERIOD or begun < last:
        return f"{killed.iterations_done} iterations done, the last checkpoint after {last}, resumed at {begun}"
    final = weights_of(killed.output)
    if any(not torch.equal(final[name], value) for name, value in wanted.items()):
        return "other weights at the end than without the kill"
    return wrong_metrics(killed.output, RECORDS[with_evaluation])


def signals(trainings: Trainings, number: signal.Signals, times: int) -> Row:
    """SIGTERM or Ctrl-C at random moments."""
    row = Row(f"{number.name} at a random moment", "saved after the iteration, said so, no iteration lost")
    rng = random.Random(1)
    while row.tried < times:
        output = trainings.folder / f"stopped_{number.name}_{row.tried}"
        # A shell lets programs in the background ignore Ctrl-C, and their children too.
        hear = partial(signal.signal, number, signal.default_int_handler)
        stopped = trainings.start(output, before=hear, **NO_EVALUATION)
        wanted = rng.randrange(1, ITERATIONS - 10)
        while stopped.iterations_done < wanted and stopped.is_alive:
            time.sleep(0.001)
        stopped.send(number)
        code = stopped.wait()
        last, said = max(whole_checkpoints(output).values(), default=0), stopped.last_line
        is_told = f"after iteration {last}, saved as" in said
        is_right = code == 128 + number and is_told and last == stopped.iterations_done
        row.add("" if is_right else f"exit code {code}, checkpoint after {last}: {said}", said)
    return row


def two_in_one_folder(trainings: Trainings) -> Row:
    """A second training in the folder of a first, then one after the first is killed."""
    row = Row("a second training in one OUTPUT_DIR", "refused; after SIGKILL of the first the folder is free")
    output = trainings.folder / "two"
    first = trainings.start(output, SOLVER__MAX_ITER=100000, **NO_EVALUATION)
    while first.iterations_done < 3 and first.is_alive:
        time.sleep(0.01)
    second = trainings.start(trainings.folder / "two", "--resume", **NO_EVALUATION)
    code = second.wait()
    first.send(signal.SIGKILL)
    first.wait()
    row.add("" if code == 1 and "Another training (process" in second.said else second.last_line, second.last_line)
    third = trainings.start(output, "--resume", SOLVER__MAX_ITER=first.iterations_done + 5, **NO_EVALUATION)
    code = third.wait()
    return row.add("" if code == 0 else third.last_line)


def full_tmpfs(trainings: Trainings) -> Row:
    """A file system with room for a few checkpoints; to mount it takes root."""
    output = trainings.folder / "full_tmpfs"
    output.mkdir()
    _mount(output, "size=256k")
    try:
        full = trainings.start(output, SOLVER__KEEP_CHECKPOINTS=0, **NO_EVALUATION)
        full.wait()
        return _after_full(trainings, full, "a tmpfs of 256 KiB", lambda: _mount(output, "remount,size=64m"))
    finally:
        subprocess.run(["umount", str(output)], check=True)


def full_quota(trainings: Trainings) -> Row:
    """A process that may write no more after some iterations (RLIMIT_FSIZE)."""
    full = trainings.start(trainings.folder / "full_quota", **NO_EVALUATION)
    while full.iterations_done < 30 and full.is_alive:
        time.sleep(0.001)
    resource.prlimit(full.pid, resource.RLIMIT_FSIZE, (12_000, 12_000))
    full.wait()
    return _after_full(trainings, full, "RLIMIT_FSIZE of 12 kB from iteration 30 on", lambda: None)


def _after_full(trainings: Trainings, full: Training, means: str, make_room: Callable[[], None]) -> Row:
    row = Row(f"full disk ({means})", "one line that says so; the last whole checkpoint stays and is resumed from")
    said = [line for line in full.said.splitlines() if line.startswith("error: ")]
    last = max(whole_checkpoints(full.output).values())
    make_room()
    resumed = trainings.start(full.output, "--resume", **NO_EVALUATION)
    code = resumed.wait()
    is_right = len(said) == 1 and "Traceback" not in full.said and code == 0
    is_right = is_right and f"goes on after iteration {last}" in " ".join(resumed.said.split())
    wrong = f"{said or full.last_line}; then {resumed.last_line}"
    return row.add("" if is_right else wrong, (said or [""])[0])


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def read_only(trainings: Trainings) -> Row:
    """An OUTPUT_DIR on a file system that cannot be written to; permissions alone do not stop root."""
    row = Row("read-only OUTPUT_DIR (a tmpfs mounted so)", "one line, before the training begins")
    output = trainings.folder / "read_only"
    output.mkdir()
    _mount(output, "ro")
    try:
        refused = trainings.start(output, **NO_EVALUATION)
        is_right = refused.wait() == 1 and refused.last_line.startswith("error: OUTPUT_DIR")
        return row.add("" if is_right else refused.last_line, refused.last_line)
    finally:
        subprocess.run(["umount", str(output)], check=True)


def truncate(output: Path, last: Path) -> None:
    """The last checkpoint is cut off in the middle."""
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])


def remove(output: Path, last: Path) -> None:
    """The last checkpoint is missing."""
    last.unlink()


def remove_tag(output: Path, last: Path) -> None:
    """The file last_checkpoint is missing."""
    (output / "last_checkpoint").unlink()


def poison(output: Path, last: Path) -> None:
    """A weight in the last checkpoint is NaN."""
    content = torch.load(last, weights_only=True)
    content["raw_model"]["box.bias"][0] = float("nan")
    torch.save(content, last)


def damaged(trainings: Trainings, damage: Callable[[Path, Path], None]) -> Row:
    """The last checkpoint of a stopped run is damaged."""
    is_lost = damage is not remove_tag
    row = Row(damage.__doc__.rstrip("."), "the one before it is taken, and said" if is_lost else "the last is taken")
    output = trainings.folder / f"damaged_{damage.__name__}"
    trainings.start(output, SOLVER__MAX_ITER=20, **NO_EVALUATION).wait()
    last = output / "model_final.pth"
    damage(output, last)
    resumed = trainings.start(output, "--resume", **NO_EVALUATION)
    code = resumed.wait()
    said = " ".join(resumed.said.partition("weights ")[2].partition("training ")[0].split())
    taken = output / "model_0000017.pth" if is_lost else last
    is_right = code == 0 and f"{taken}: the run goes on after iteration {18 if is_lost else 20}" in said
    is_right = is_right and (not is_lost or str(last) in said)
    return row.add("" if is_right else f"exit code {code}: {said or resumed.last_line}", said)
