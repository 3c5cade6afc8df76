#!/usr/bin/env python3
"""Measure the memory that tools/predict.py takes for large images in tiles; docs/tiling_and_video.md has the figures.

    python tools/measure_memory.py --sides 2000 8000 --tile 640

A photograph of coins is repeated to square PNG files.  Each is predicted by a process of its own, whose maximum
resident size is the figure: without drawing (--save json) and with it (--save img).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from tabulate import tabulate

TOOL = Path(__file__).resolve().with_name("predict.py")


def main() -> int:
    """Write the table to stdout and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="quickstart_MNV2_D3_256", help="name of a config (default: %(default)s)")
    parser.add_argument("--sides", nargs="+", type=int, default=[2000, 8000], metavar="N", help="of images, in pixels")
    parser.add_argument("--tile", type=int, default=640, help="side of a tile in pixels (default: %(default)s)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side in args.sides:
            file = write_image(Path(folder), side)
            for save in ("json", "img"):
                command = [sys.executable, str(TOOL), "--model", args.model, "--input", str(file), "--threads", "1",
                           "--output", f"{folder}/{side}_{save}", "--save", save, "--tile", str(args.tile)]  # fmt: skip
                rows.append([side, f"--save {save}", *measure(command)])
    sys.stdout.write(tabulate(rows, ["side", "", "MB at the highest", "seconds computed", "seconds"]) + "\n")
    return 0


def write_image(folder: Path, side: int) -> Path:
    """Write a PNG of side x side pixels."""
    coins = np.repeat(data.coins()[:, :, None], 3, axis=2)
    repeats = [-(-side // length) for length in coins.shape[:2]]
    file = folder / f"{side}.png"
    Image.fromarray(np.tile(coins, (*repeats, 1))[:side, :side]).save(file, compress_level=1)
    return file


def measure(command: list[str]) -> tuple[int, int, int]:
    """Return the maximum resident size of a command in MB, and the seconds that it computed and took."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    return usage.ru_maxrss // 1000, round(usage.ru_utime + usage.ru_stime), round(time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
