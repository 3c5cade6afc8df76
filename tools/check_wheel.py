#!/usr/bin/env python3
"""Build the sdist and the wheel, install the wheel into an empty environment, and predict from an empty folder.

    python tools/check_wheel.py            # the environment sees the packages of this one, but not its insta_rtdetr
    python tools/check_wheel.py --alone    # it sees nothing: everything is installed anew (minutes, 5 GB)

Nothing is left behind, unless --output names a folder for the two files.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from insta_rtdetr.command_line import CommandParser, run_command
from insta_rtdetr.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
# What a build needs.
SOURCES = ("configs", "demo", "insta_rtdetr", "tools", "pyproject.toml", "setup.py", "README.md", "LICENSE")
# Run in the new environment.  24 coins are in the photograph.
PROGRAM = """
import sys
from pathlib import Path
import insta_rtdetr
from insta_rtdetr import create_model
from skimage import data, io

assert Path(insta_rtdetr.__file__).is_relative_to(sys.prefix), f"{insta_rtdetr.__file__} is not in {sys.prefix}"
io.imsave("coins.png", data.coins())
(result,) = create_model("quickstart_MNV2_D3_256").predict("coins.png", threshold=0.5)
assert len(result) >= 20, f"{len(result)} objects"
print(f"{len(result)} objects in coins.png, with insta_rtdetr at {Path(insta_rtdetr.__file__).parent}")
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: check_wheel(arguments))


def check_wheel(arguments: list[str] | None) -> None:
    """Build, install and use the wheel.

    Raises:
        UserError: a step failed.
    """
    parser = CommandParser("python tools/check_wheel.py", __doc__)
    parser.add_argument("--alone", action="store_true", help="install all packages anew")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="keep the sdist and the wheel there")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = build(folder / "dist")
        python = install(wheel, folder / "environment", args.alone)
        empty = folder / "empty"
        empty.mkdir()
        run([python, "-c", PROGRAM], empty)
        command = ["predict", "--model", "quickstart_MNV2_D3_256", "--input", "coins.png", "--output", "found"]
        run([python.with_name("insta-rtdetr"), *command], empty)
        run([python.with_name("insta-rtdetr"), "doctor"], empty)
        if args.output:
            shutil.copytree(folder / "dist", args.output, dirs_exist_ok=True)


def build(folder: Path) -> Path:
    """Build the sdist, and the wheel from the sdist; return the wheel.

    A copy is built, because setuptools also packs what an earlier build's .egg-info lists.
    """
    with tempfile.TemporaryDirectory() as copy:
        for name in SOURCES:
            source, target = REPOSITORY / name, Path(copy) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copy], REPOSITORY, quiet=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, alone: bool) -> Path:
    """Make an environment, install a wheel into it, and return the environment's Python.

    Args:
        wheel: the file.
        folder: of the environment.
        alone: whether to install what the wheel requires; else it is taken from the environment that runs this.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if alone:
        run([*pip, wheel, "scikit-image"], folder)
        (tool,) = folder.glob("lib/python*/site-packages/insta_rtdetr/tools/install_detectron2.py")
        run([python, tool], folder)
        return python
    # Folders that a .pth file names are searched last, and .pth files in them are not read: an editable insta_rtdetr
    # of this environment stays invisible.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    run([*pip, "--no-deps", "--ignore-installed", wheel], folder)
    return python


def run(command: Sequence[str | Path], folder: Path, quiet: bool = False) -> None:
    """Run a command in a folder, without this process's PYTHONPATH.

    Raises:
        UserError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=quiet, text=True, check=False)
    if done.returncode:
        shown = " ".join(words).replace("\n", " ")[:200]
        raise UserError(f"{shown} ended with exit code {done.returncode}.  {(done.stderr or '')[-2000:]}".strip())


if __name__ == "__main__":
    sys.exit(main())
