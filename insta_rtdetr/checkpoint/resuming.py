"""Which checkpoints of a run it can go on from, the best choice first."""

from pathlib import Path

import torch

LAST = "last_checkpoint"
_PATTERNS = ("model_[0-9]*.pth", "model_final.pth", "model_best.pth")


def resumable(folder: str | Path) -> list[Path]:
    """Return the checkpoints of a run, in the order in which a resumed run should try them.

    The first is the one that the file last_checkpoint names, which users may change.  A later one comes before it only
    if it is newer than that file: the run was killed between writing the two.  The others follow, the latest first.

    Args:
        folder: the OUTPUT_DIR of the run.
    """
    folder = Path(folder)
    files = {file for pattern in _PATTERNS for file in folder.glob(pattern)}
    latest_first = sorted(files, key=lambda file: (_iteration(file), file.stat().st_mtime), reverse=True)
    tag = folder / LAST
    if not tag.is_file():
        return latest_first
    named = folder / tag.read_text(encoding="utf-8", errors="replace").strip()
    newer = [file for file in latest_first if _iteration(file) > _iteration(named) and _is_newer(file, tag)]
    return [*newer, named, *(file for file in latest_first if file != named and file not in newer)]


def _iteration(file: Path) -> int:
    """Return the last iteration of a checkpoint; -1 if it cannot be read."""
    try:
        # mmap: only the numbers are read, not the weights.
        return int(torch.load(file, map_location="cpu", mmap=True, weights_only=True)["iteration"])
    except Exception:  # A damaged file may raise anything.  The checkpointer says what is wrong with it.
        return -1


def _is_newer(file: Path, other: Path) -> bool:
    return file.stat().st_mtime_ns > other.stat().st_mtime_ns
