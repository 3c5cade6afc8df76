"""tools/install_detectron2.py, on a small stand-in for the source archive: no network, no Detectron2."""

import base64
import csv
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
TOOL = TOOLS / "install_detectron2.py"


@pytest.fixture(scope="module")
def tool():
    """The script as a module."""
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location("install_detectron2", TOOL)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up there
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(TOOLS))
        sys.modules.pop("install_detectron2", None)


@pytest.fixture
def source_files(tool):
    """Wheel path -> text: just enough for every edit to apply."""
    files = {"detectron2/__init__.py": '__version__ = "0.6"\n', "detectron2/model_zoo/configs/a.yaml": "A: 1\n"}
    for edit in tool.EDITS:
        files[edit.path] = files.get(edit.path, "# original\n") + f"{edit.old}\n" * edit.count
    return files


def sdist(tool, files: dict[str, str], extra: dict[str, str] | None = None) -> bytes:
    """A .tar.gz laid out as the real one, projects beside the package."""
    members = {"LICENSE": "license text\n", "setup.py": "raise SystemExit\n", "tools/__init__.py": "", **(extra or {})}
    for path, text in files.items():
        for source, target in reversed(tool.SOURCE_FOLDERS.items()):  # the longest target first
            if path.startswith(target):
                members[source + path.removeprefix(target)] = text
                break
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in members.items():
            info = tarfile.TarInfo(f"pb1-detectron2-0.6/{path}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def accept_sdist(tool, monkeypatch):
    """Make the tool take a stand-in archive for the known one."""

    def accept(archive: bytes, path: Path) -> Path:
        monkeypatch.setattr(tool.check_sha256, "__defaults__", (hashlib.sha256(archive).hexdigest(),))
        path.write_bytes(archive)
        return path

    return accept


def build(tool, archive: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(tool.build_wheel(tool.apply_edits(tool.read_sources(archive, "stand-in")))))


def test_every_edit_replaces_what_it_names(tool, source_files):
    wheel = build(tool, sdist(tool, source_files))
    for path in {edit.path for edit in tool.EDITS}:
        replaced = [f"{edit.new}\n" * edit.count for edit in tool.EDITS if edit.path == path]
        assert wheel.read(path).decode() == tool.NOTICE + "# original\n" + "".join(replaced)


def test_an_edit_replaces_whole_words_only(tool):
    edit = tool.Edit("a.py", "np.int", "int", 1, "")
    edited = tool.apply_edits({"a.py": b"np.int64(np.int)\n"}, [edit])
    assert edited["a.py"].decode().removeprefix(tool.NOTICE) == "np.int64(int)\n"


@pytest.mark.parametrize("times", [0, 2])
def test_sources_that_look_otherwise_are_refused(tool, times):
    edit = tool.Edit("a.py", "np.int", "int", 1, "")
    with pytest.raises(tool.InstallError, match=rf"a\.py holds 'np\.int' {times} times, wanted 1"):
        tool.apply_edits({"a.py": b"np.int\n" * times}, [edit])


def test_a_missing_file_is_refused(tool, source_files):
    del source_files["detectron2/data/build.py"]
    with pytest.raises(tool.InstallError, match=r"no detectron2/data/build\.py"):
        build(tool, sdist(tool, source_files))


def test_a_wrong_hash_is_refused_and_nothing_is_written(tool, source_files, tmp_path, capsys):
    archive = tmp_path / "sdist.tar.gz"
    archive.write_bytes(sdist(tool, source_files))
    code = tool.main(["--sdist", str(archive), "--wheel-dir", str(tmp_path / "wheels")])
    error = capsys.readouterr().err
    assert code == 1
    assert "has sha256" in error and tool.SDIST_SHA256 in error and error.count("\n") == 1
    assert not (tmp_path / "wheels").exists()


def test_an_unreadable_archive_is_one_line_on_stderr(tool, accept_sdist, tmp_path, capsys):
    archive = accept_sdist(b"no archive", tmp_path / "sdist.tar.gz")
    assert tool.main(["--sdist", str(archive), "--wheel-dir", str(tmp_path)]) == 1
    assert "no readable .tar.gz" in capsys.readouterr().err


def test_the_archive_cannot_write_outside_the_wheel(tool, source_files):
    sources = tool.read_sources(sdist(tool, source_files, {"detectron2/../../evil.py": "bad\n"}), "stand-in")
    assert not any("evil" in path for path in sources)


def test_wheel_holds_package_projects_configs_and_license_but_no_tools(tool, source_files):
    source_files |= {
        f"detectron2/projects/{name}/__init__.py": "" for name in ("point_rend", "deeplab", "panoptic_deeplab")
    }
    names = build(tool, sdist(tool, source_files)).namelist()
    for name in ("point_rend", "deeplab", "panoptic_deeplab"):
        assert f"detectron2/projects/{name}/__init__.py" in names
    assert "detectron2/model_zoo/configs/a.yaml" in names
    assert "detectron2-0.6+pure.dist-info/licenses/LICENSE" in names
    assert {name.partition("/")[0] for name in names} == {"detectron2", "detectron2-0.6+pure.dist-info"}


def test_record_lists_every_file_with_its_hash_and_size(tool, source_files):
    wheel = build(tool, sdist(tool, source_files))
    assert wheel.namelist()[-1] == "detectron2-0.6+pure.dist-info/RECORD"
    rows = list(csv.reader(io.StringIO(wheel.read(wheel.namelist()[-1]).decode())))
    assert [row[0] for row in rows] == wheel.namelist()
    assert rows[-1][1:] == ["", ""]
    for path, digest, size in rows[:-1]:
        content = wheel.read(path)
        expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={expected}", len(content))


def test_metadata_names_needs_license_and_every_modification(tool, source_files):
    text = build(tool, sdist(tool, source_files)).read("detectron2-0.6+pure.dist-info/METADATA").decode()
    metadata = Parser().parsestr(text)
    assert (metadata["Name"], metadata["Version"], metadata["License"]) == ("detectron2", "0.6+pure", "Apache-2.0")
    assert metadata.get_all("Requires-Dist") == list(tool.REQUIRES)
    assert "MODIFIED" in text and tool.SDIST_SHA256 in text
    for edit in tool.EDITS:
        assert f"- {edit.path} " in text and edit.why in text


def test_the_same_sources_give_the_same_bytes(tool, source_files):
    first, second = source_files, dict(reversed(source_files.items()))
    wheels = [tool.build_wheel(tool.apply_edits(tool.read_sources(sdist(tool, f), ""))) for f in (first, second)]
    assert wheels[0] == wheels[1]


def test_wheel_dir_writes_a_wheel_that_pip_installs(tool, source_files, accept_sdist, tmp_path):
    archive = accept_sdist(sdist(tool, source_files), tmp_path / "sdist.tar.gz")
    assert tool.main(["--sdist", str(archive), "--wheel-dir", str(tmp_path / "wheels")]) == 0
    wheels = list((tmp_path / "wheels").iterdir())
    assert [wheel.name for wheel in wheels] == [tool.WHEEL_NAME]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", tmp_path / "site", wheels[0]], check=True, capture_output=True)
    assert (tmp_path / "site/detectron2/_uncompiled.py").is_file()


def test_the_stand_in_for_compiled_operators_fails_on_use_not_on_import(tool):
    names: dict = {}
    exec(tool.UNCOMPILED_SOURCE, names)
    with pytest.raises(ImportError, match=r"_C\.nms_rotated is a compiled operator"):
        names["_C"].nms_rotated(1)


def stand_in_package(folder: Path, broken_by: str = "") -> Path:
    """A package `detectron2` that imports, or whose engine raises."""
    for part in ("engine", "evaluation", "data"):
        (folder / "detectron2" / part).mkdir(parents=True)
        (folder / "detectron2" / part / "__init__.py").write_text(broken_by if part == "engine" else "")
    (folder / "detectron2/__init__.py").write_text('__version__ = "0.7"\n')
    return folder


def run_tool(site: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(site), "PIP_NO_INDEX": "1"}
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_working_detectron2_is_left_alone(tmp_path):
    result = run_tool(stand_in_package(tmp_path), "--sdist", "/does/not/exist")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"Detectron2 0.7 at {tmp_path}/detectron2 works; nothing to do.\n"


def test_a_detectron2_that_lacks_a_dependency_is_not_replaced(tmp_path):
    result = run_tool(stand_in_package(tmp_path, "import yacs_is_not_here"))
    assert result.returncode == 1
    assert "needs the module yacs_is_not_here" in result.stderr and "-r requirements.txt" in result.stderr


def test_a_broken_detectron2_is_named_before_it_is_replaced(tmp_path):
    broken = stand_in_package(tmp_path, "raise AttributeError('np.bool is gone')")
    result = run_tool(broken, "--sdist", "/does/not/exist")
    assert result.returncode == 1
    assert "does not import (AttributeError: np.bool is gone)" in result.stdout
    assert result.stderr == (
        "install_detectron2: error: --sdist /does/not/exist is no file. Leave --sdist out to download the archive.\n"
    )
