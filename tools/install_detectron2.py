#!/usr/bin/env python3
# Copyright 2026 The insta_rtdetr authors. Licensed under the Apache License, Version 2.0.
"""Make `import detectron2` work: install Detectron2 0.6 as a pure-Python wheel, unless one is there already.

    python tools/install_detectron2.py                       # check, then download, edit and install
    python tools/install_detectron2.py --sdist FILE          # the same, from a source archive you have
    python tools/install_detectron2.py --wheel-dir wheels    # only write the wheel, for an offline machine

The package index holds no Detectron2 that installs, only a copy of the Python sources of v0.6 (`pb1-detectron2`)
without the C++ files. Those sources predate today's NumPy, Pillow, PyTorch and setuptools, so some lines must change.

EDITS in detectron2_edits.py lists every change with its reason; the same list goes into the wheel's METADATA. Each edit
must apply exactly as often as it says, else nothing is installed.

Needs the standard library only, because it runs before anything else of this repository can be imported.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2_edits import EDITS, UNCOMPILED_PATH, UNCOMPILED_SOURCE, Edit

SDIST_NAME = "pb1-detectron2"
UPSTREAM_VERSION = "0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
# The part after "+" shows in `pip list` that this is not an upstream build; detectron2.__version__ stays "0.6".
WHEEL_VERSION = f"{UPSTREAM_VERSION}+pure"
WHEEL_NAME = f"detectron2-{WHEEL_VERSION}-py3-none-any.whl"
DIST_INFO = f"detectron2-{WHEEL_VERSION}.dist-info"

# Folder of the source archive -> folder of the wheel. Upstream ships three of its projects inside the package.
SOURCE_FOLDERS = {
    "detectron2/": "detectron2/",
    "projects/PointRend/point_rend/": "detectron2/projects/point_rend/",
    "projects/DeepLab/deeplab/": "detectron2/projects/deeplab/",
    "projects/Panoptic-DeepLab/panoptic_deeplab/": "detectron2/projects/panoptic_deeplab/",
}
PACKAGED_SUFFIXES = (".py", ".yaml")

# OpenCV is left out, as upstream does: it has several distributions, of which only one may be installed.  Upstream's
# `black` and `future` are left out: only the Caffe2 export and the pretty-printing of lazy configs use them.
REQUIRES = (
    "torch>=2.3",
    "torchvision>=0.18",
    "numpy>=1.24",
    "Pillow>=9.1",
    "matplotlib>=3.6",
    "pycocotools>=2.0.7",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.9,<0.2",
    "pydot",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
)

NOTICE = (
    f"# Modified by insta_rtdetr's tools/install_detectron2.py; {DIST_INFO}/METADATA lists what was changed and why.\n"
)


class InstallError(Exception):
    """Error that is reported in one line: what was found, what was wanted, and which command corrects it."""


def check_sha256(archive: bytes, name: str, wanted: str = SDIST_SHA256) -> None:
    """Check that a source archive is the known one.

    Raises:
        InstallError: the SHA-256 differs.
    """
    found = hashlib.sha256(archive).hexdigest()
    if found != wanted:
        raise InstallError(
            f"{name} has sha256 {found}, wanted {wanted}. "
            f"Pass the unchanged {SDIST_NAME}-{UPSTREAM_VERSION}.tar.gz with --sdist."
        )


def read_sources(archive: bytes, name: str) -> dict[str, bytes]:
    """Read the files that belong in the wheel, keyed by their path in the wheel; nothing is unpacked to disk.

    Raises:
        InstallError: the archive is unreadable, or holds no Detectron2.
    """
    sources: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar.getmembers():
                target = wheel_path(member.name)
                if member.isfile() and target:
                    sources[target] = tar.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InstallError(f"{name} is no readable .tar.gz archive ({error}). Download it again.") from error
    for needed in ("detectron2/__init__.py", f"{DIST_INFO}/licenses/LICENSE"):
        if needed not in sources:
            raise InstallError(f"{name} holds no file for {needed}; wanted the Detectron2 {UPSTREAM_VERSION} sources.")
    return sources


def wheel_path(member_name: str) -> str | None:
    """Return the path in the wheel for a file of the source archive; None if the wheel does not contain it."""
    _, _, path = member_name.partition("/")  # Without the folder "pb1-detectron2-0.6/".
    if ".." in path.split("/"):
        return None
    if path == "LICENSE":
        return f"{DIST_INFO}/licenses/LICENSE"
    for source, target in SOURCE_FOLDERS.items():
        if path.startswith(source) and path.endswith(PACKAGED_SUFFIXES):
            return target + path[len(source) :]
    return None


def apply_edits(sources: dict[str, bytes], edits: Sequence[Edit] = EDITS) -> dict[str, bytes]:
    """Return the sources with every edit applied, a notice at the top of each changed file, and the stand-in for _C.

    Raises:
        InstallError: a file is missing, or an edit does not apply exactly `count` times.
    """
    edited = dict(sources)
    for edit in edits:
        if edit.path not in sources:
            raise InstallError(f"The source archive has no {edit.path}; wanted the {UPSTREAM_VERSION} sources.")
        # Only whole words are replaced, so that an edit of np.int leaves np.int64 alone.
        pattern = re.compile(re.escape(edit.old) + (r"(?!\w)" if edit.old[-1].isalnum() else ""))
        text, found = pattern.subn(lambda _match, new=edit.new: new, edited[edit.path].decode("utf-8"))
        if found != edit.count:
            raise InstallError(
                f"{edit.path} holds {edit.old.strip().splitlines()[0]!r} {found} times, wanted {edit.count}: "
                f"these are not the {UPSTREAM_VERSION} sources this tool was written for."
            )
        edited[edit.path] = text.encode("utf-8")
    for path in {edit.path for edit in edits}:
        edited[path] = NOTICE.encode("utf-8") + edited[path]
    edited[UNCOMPILED_PATH] = UNCOMPILED_SOURCE.encode("utf-8")
    return edited


def metadata_text(edits: Sequence[Edit] = EDITS) -> str:
    """Return the wheel's METADATA: its requirements, its origin, and every modification (Apache-2.0, section 4b)."""
    head = [
        "Metadata-Version: 2.1",
        "Name: detectron2",
        f"Version: {WHEEL_VERSION}",
        f"Summary: Detectron2 {UPSTREAM_VERSION} without compiled operators, modified to run with current libraries",
        "Home-page: https://github.com/facebookresearch/detectron2",
        "Author: FAIR; modified by the insta_rtdetr authors",
        "License: Apache-2.0",
        "License-File: LICENSE",
        "Requires-Python: >=3.11",
    ]
    head += [f"Requires-Dist: {requirement}" for requirement in REQUIRES]
    body = [
        "",
        f"This is Detectron2 {UPSTREAM_VERSION} by Facebook AI Research, MODIFIED by tools/install_detectron2.py of",
        f"insta_rtdetr. It was made from the archive {SDIST_NAME}-{UPSTREAM_VERSION}.tar.gz with SHA-256",
        f"{SDIST_SHA256}.",
        "",
        "Added: detectron2/_uncompiled.py, which stands in for the compiled module detectron2._C.",
        "Left out: the C++ and CUDA sources, the tools. Changed, each file saying so in its first line:",
        "",
    ]
    body += [f"- {edit.path} ({edit.count}x {edit.old.strip().splitlines()[0]!r}): {edit.why}." for edit in edits]
    return "\n".join(head + body) + "\n"


def record_line(path: str, content: bytes) -> str:
    """Return one line of RECORD: path, urlsafe base64 SHA-256 without padding, size in bytes."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")
    return f"{path},sha256={digest},{len(content)}"


def build_wheel(sources: dict[str, bytes]) -> bytes:
    """Pack edited sources as a wheel; the same sources give the same bytes on every machine."""
    files = dict(sources)
    files[f"{DIST_INFO}/METADATA"] = metadata_text().encode("utf-8")
    files[f"{DIST_INFO}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: insta_rtdetr install_detectron2\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{DIST_INFO}/top_level.txt"] = b"detectron2\n"
    # The wheel format wants the files of .dist-info last, and RECORD at the very end.
    order = sorted(files, key=lambda path: (path.startswith(DIST_INFO), path))
    lines = [record_line(path, files[path]) for path in order] + [f"{DIST_INFO}/RECORD,,"]
    files[f"{DIST_INFO}/RECORD"] = ("\n".join(lines) + "\n").encode("utf-8")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in [*order, f"{DIST_INFO}/RECORD"]:
            # The date and the permissions are fixed, and nothing is compressed, because builds of zlib differ.
            info = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            info.create_system = 3
            archive.writestr(info, files[path])
    return buffer.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read.
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


# Checks of the environment, and installation.

PROBE = """
import importlib
try:
    package = importlib.import_module("detectron2")
    for part in ("engine", "evaluation", "data"):
        importlib.import_module("detectron2." + part)
except Exception as error:
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    print("DETECTRON2|broken|" + (missing or "") + "|" + type(error).__name__ + ": " + " ".join(str(error).split()))
else:
    version = getattr(package, "__version__", "unknown version")
    print("DETECTRON2|works|" + version + "|" + (package.__file__ or "").rpartition("/")[0])
"""


@dataclass(frozen=True)
class Probe:
    """Result of `import detectron2` in a fresh interpreter.

    Attributes:
        works: whether it can be imported.
        version: its version, if it works.
        place: its folder, if it works.
        missing_module: name of the module that was not found, if that was the reason.
        reason: the exception, if it does not work.
    """

    works: bool
    version: str = ""
    place: str = ""
    missing_module: str = ""
    reason: str = ""


def probe_detectron2() -> Probe:
    """Try the import in a new interpreter, where a half-imported package of this one cannot mislead."""
    # -P keeps the current folder off sys.path, because an unpacked Detectron2 in it is no installation.
    result = subprocess.run([sys.executable, "-P", "-c", PROBE], capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        if line.startswith("DETECTRON2|"):
            _, state, first, second = line.split("|", 3)
            if state == "works":
                return Probe(works=True, version=first, place=second)
            return Probe(works=False, missing_module=first, reason=second)
    return Probe(works=False, reason=last_line(result.stderr) or f"python ended with code {result.returncode}")


def last_line(text: str) -> str:
    """Return the last non-empty line, where Python and pip put the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def pip_error(text: str) -> str:
    """Return the line of pip's output that gives the reason."""
    errors = [line.strip() for line in text.splitlines() if line.strip().startswith("ERROR:")]
    return errors[0] if errors else last_line(text)


def run_pip(arguments: Sequence[str], purpose: str, remedy: str) -> None:
    """Run this interpreter's pip quietly.

    Raises:
        InstallError: pip failed.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise InstallError(f"Could not {purpose}: {pip_error(result.stderr + result.stdout)}. {remedy}")


def download_sdist() -> bytes:
    """Fetch the source archive with pip, which checks its hash before it runs anything from it.

    Raises:
        InstallError: a build requirement is missing, or the download failed.
    """
    # pip asks the archive's setup.py for its name, and that file imports torch and setuptools.  From 70.1 on setuptools
    # has its own part of wheel.
    parts = {"torch": ["torch"], "setuptools": ["setuptools"], "wheel": ["setuptools.command.bdist_wheel", "wheel"]}
    for module, places in parts.items():
        if not any(importlib.util.find_spec(place) for place in places):
            raise InstallError(
                f"{module} is not installed for {sys.executable}. "
                f"Run: {sys.executable} -m pip install -r requirements.txt"
            )
    with tempfile.TemporaryDirectory(prefix="install-detectron2-") as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(f"{SDIST_NAME}=={UPSTREAM_VERSION} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", folder]
        run_pip(
            ["download", *options, "--requirement", str(wanted)],
            f"download {SDIST_NAME}=={UPSTREAM_VERSION}",
            "Check the network, or pass the archive with --sdist FILE.",
        )
        archives = sorted(Path(folder).glob("*.tar.gz"))
        if not archives:
            raise InstallError(f"pip downloaded no .tar.gz of {SDIST_NAME}. Pass the archive with --sdist FILE.")
        return archives[0].read_bytes()


def make_wheel(sdist: Path | None) -> bytes:
    """Build the wheel from the source archive, which is downloaded if `sdist` is None.

    Raises:
        InstallError: the archive cannot be found, or is not the known one.
    """
    if sdist is None:
        archive, name = download_sdist(), f"{SDIST_NAME}-{UPSTREAM_VERSION}.tar.gz"
    elif sdist.is_file():
        archive, name = sdist.read_bytes(), str(sdist)
    else:
        raise InstallError(f"--sdist {sdist} is no file. Leave --sdist out to download the archive.")
    check_sha256(archive, name)
    return build_wheel(apply_edits(read_sources(archive, name)))


def install_wheel(wheel: bytes) -> Probe:
    """Install the wheel with this interpreter's pip, and check that it can be imported.

    Raises:
        InstallError: pip failed, or the import fails afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="install-detectron2-") as folder:
        path = Path(folder, WHEEL_NAME)
        path.write_bytes(wheel)
        # Reinstallation is forced, because a broken installation of the same version would count as installed.
        options = ["--quiet", "--no-deps", "--no-index", "--force-reinstall"]
        run_pip(["install", *options, str(path)], "install the wheel", "Use a virtual environment you may write to.")
    probe = probe_detectron2()
    if not probe.works:
        raise InstallError(
            f"Detectron2 {WHEEL_VERSION} is installed, but importing it fails: {probe.reason}. "
            f"Run: {sys.executable} -m pip install -r requirements.txt"
        )
    return probe


def ensure_detectron2(sdist: Path | None) -> None:
    """Install the patched Detectron2 0.6 unless a working Detectron2 is installed.

    Raises:
        InstallError: it could not be made to work.
    """
    probe = probe_detectron2()
    if probe.works:
        print(f"Detectron2 {probe.version} at {probe.place} works; nothing to do.")
        return
    if probe.missing_module and probe.missing_module.partition(".")[0] != "detectron2":
        raise InstallError(
            f"A Detectron2 is there, but it needs the module {probe.missing_module}, which is not installed. "
            f"Run: {sys.executable} -m pip install -r requirements.txt"
        )
    if not probe.missing_module:
        print(f"The Detectron2 that is there does not import ({probe.reason}); installing over it.")
    probe = install_wheel(make_wheel(sdist))
    print(f"Installed Detectron2 {WHEEL_VERSION} (pure Python) at {probe.place}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdist", type=Path, metavar="FILE", help="use this source archive instead of downloading it")
    parser.add_argument("--wheel-dir", type=Path, metavar="DIR", help="write the wheel into DIR and install nothing")
    options = parser.parse_args(arguments)
    try:
        if options.wheel_dir is None:
            ensure_detectron2(options.sdist)
        else:
            target = options.wheel_dir / WHEEL_NAME
            write_atomically(target, make_wheel(options.sdist))
            print(f"Wrote {target}.")
    except (InstallError, OSError) as error:
        print(f"install_detectron2: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
