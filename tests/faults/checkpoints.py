"""Hostile files under every ending that the package opens: one line, no code run, memory and time bounded."""

import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.contents import read_contents
from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.errors import UserError, report
from insta_rtdetr.predict import create_model
from tests.tiny import tiny_model

from .children import FORK, Child
from .hostile_files import write_checkpoints, write_configs, write_exported
from .table import Row, Step

MAX_SECONDS, MAX_GROWTH = 20, 1.5 * 2**30
# However much a file asks for, this machine stays usable.
SAFETY = 6 * 2**30


def steps(folder: Path) -> Iterator[Step]:
    """Yield all faults; a file exists until the next one is asked for.

    Args:
        folder: for files.
    """
    folder.mkdir(parents=True)
    marker = folder / "code_was_run"
    for what, file in write_checkpoints(folder, marker):
        yield what, partial(_try, what, file, marker, open_checkpoint)
        file.unlink()
    for what, file in list(write_configs(folder, marker)):
        yield what, partial(_try, what, file, marker, lambda file: setup_cfg(file, []))
    for what, file in write_exported(folder):
        yield what, partial(_try, what, file, marker, create_model)
    yield "NaN in a weight", partial(_wrong_numbers, folder, marker)


def open_checkpoint(file: str) -> None:
    """As info and training read it; the second says what the first does not look at."""
    read_contents(file).summary()
    Checkpointer(tiny_model()).load(file)


def _try(what: str, file: Path, marker: Path, opener: Callable[[str], object]) -> Row:
    row = Row(what, "one line, no code run, under 1.5 GiB and 20 s")
    growth = FORK.Value("d", 0.0, lock=False)
    start = time.monotonic()
    child = Child(_open, opener, str(file), growth, log=file.parent / "child.log")
    code = child.wait(MAX_SECONDS)
    seconds = time.monotonic() - start
    said = child.last_line.replace(str(file.parent), "...")
    wrong = ""
    if marker.exists():
        wrong = "code was run"
        marker.unlink()
    elif code != 1 or not said.startswith("error: "):
        wrong = f"exit code {code}: {said}"
    elif growth.value > MAX_GROWTH:
        wrong = f"{growth.value / 2**30:.1f} GiB: {said}"
    return row.add(wrong, f"{said[:220]} ({growth.value / 2**20:.0f} MiB, {seconds:.1f} s)")


def _open(opener: Callable[[str], object], file: str, growth) -> int:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_size() + SAFETY, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        opener(file)
    except UserError as error:
        return report(error)
    finally:
        growth.value = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return 0


def _virtual_size() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _wrong_numbers(folder: Path, marker: Path) -> Row:
    """Weights with NaN, whose tensor must be named."""
    model = tiny_model()
    name = list(dict(model.named_parameters()))[-1]
    state = model.state_dict()
    state[name].flatten()[:1] = float("nan")
    torch.save({"model": state}, folder / "nan.pth")
    row = _try(".pth with NaN in a weight", folder / "nan.pth", marker, lambda file: Checkpointer(model).load(file))
    row.wanted = "refused, and the tensor is named"
    if name not in row.said and not row.failures:
        return Row(row.fault, row.wanted).add(f"{name} is not named: {row.said}")
    return row
