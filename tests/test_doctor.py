"""insta_rtdetr.doctor: one line for each thing, a command for each failure, no crash whatever is missing."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insta_rtdetr import doctor

REPOSITORY = Path(__file__).resolve().parent.parent


def run_doctor(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """The doctor as a user runs it; `path` goes before all other places that Python imports from."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path and str(path), str(REPOSITORY)]))}
    command = [sys.executable, "-m", "insta_rtdetr.doctor", *arguments]
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def broken_module(folder: Path, name: str, error: str) -> Path:
    """A module that is found first and raises."""
    (folder / f"{name}.py").write_text(f"raise {error}\n")
    return folder


def lines(findings) -> list[str]:
    return [str(finding) for finding in findings]


@pytest.fixture
def coco(tmp_path):
    """A data set in COCO layout: one image of 8 x 6 pixels with one object, in train2017 and val2017."""
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / split / "a.png")
        write_annotations(tmp_path, split)
    return tmp_path


def write_annotations(folder: Path, split: str, **changes) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 3, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]}
        ],
        "categories": [{"id": 3, "name": "thing"}],
    }
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content | changes))


def test_a_sound_installation_has_no_failure(coco):
    result = run_doctor("--dataset", str(coco))
    assert result.returncode == 0, result.stdout + result.stderr
    *report, summary = result.stdout.splitlines()
    assert all(line.startswith(("ok    ", "note  ")) for line in report)
    assert summary.startswith("doctor: ") and summary.endswith(" 0 failed")
    for part in ("Python 3.", "torch 2.", "torchvision operators on cpu", "Detectron2 0.6", "is writable", "1 object,"):
        assert part in result.stdout


def test_a_missing_package_costs_one_line_and_names_the_command(tmp_path):
    missing = broken_module(tmp_path, "yacs", "ModuleNotFoundError(\"No module named 'yacs'\", name='yacs')")
    result = run_doctor(path=missing)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    failed = [line for line in result.stdout.splitlines() if line.startswith("FAIL")]
    assert (
        failed[0] == f"FAIL  yacs is not installed, wanted >=0.1.8. Run: {sys.executable} -m pip install 'yacs>=0.1.8'"
    )
    # What needs the missing package fails too; what does not is still checked.
    assert any("Detectron2 does not import" in line and "requirements.txt" in line for line in failed)
    assert "ok    torchvision operators on cpu" in result.stdout


def test_a_missing_detectron2_names_the_tool_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    (line,) = lines(doctor.check_detectron2())
    assert line == f"FAIL  Detectron2 is not installed. Run: {sys.executable} tools/install_detectron2.py"


def test_without_a_checkout_the_missing_package_itself_is_named(tmp_path, monkeypatch):
    def raise_error(name):
        raise ModuleNotFoundError("No module named 'fvcore.common'", name="fvcore.common")

    monkeypatch.setattr(importlib, "import_module", raise_error)
    monkeypatch.setattr(doctor, "REPOSITORY", tmp_path)
    (line,) = lines(doctor.check_detectron2())
    assert line.endswith("-m pip install fvcore")


def test_a_broken_detectron2_shows_its_error(monkeypatch):
    def raise_error(name):
        raise AttributeError("module 'numpy' has no attribute 'bool'")

    monkeypatch.setattr(importlib, "import_module", raise_error)
    (line,) = lines(doctor.check_detectron2())
    assert line.startswith(
        "FAIL  Detectron2 does not import: AttributeError: module 'numpy' has no attribute 'bool'. Run:"
    )
    assert "tools/install_detectron2.py" in line


def test_a_version_out_of_range_fails():
    line = str(doctor.check_package("numpy", ">=99"))
    assert line.startswith("FAIL  numpy ") and "wanted >=99" in line and "pip install 'numpy>=99'" in line


def test_a_package_that_raises_is_reinstalled(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(broken_module(tmp_path, "broken_thing", "OSError('undefined symbol')"))
    line = str(doctor.check_package("broken-thing", ""))
    assert "does not import: OSError: undefined symbol" in line and "--force-reinstall 'broken-thing'" in line


def test_every_dependency_of_pyproject_is_checked():
    names = [doctor.split_requirement(requirement)[0] for requirement in doctor.required_packages()]
    assert {"torch", "numpy", "fvcore"} <= set(names)
    assert doctor.split_requirement("fvcore>=0.1.5,<0.1.6") == ("fvcore", ">=0.1.5,<0.1.6")


def test_a_torchvision_operator_that_raises_is_named(monkeypatch):
    def raise_error(*arguments, **options):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("torchvision.ops.nms", raise_error)
    line = lines(doctor.check_torchvision_ops())[0]
    assert line.startswith("FAIL  torchvision operators on cpu: nms (RuntimeError") and "roi_align" not in line


def test_a_check_that_crashes_is_a_failure_not_a_traceback(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    report = lines(doctor.findings(None, None))
    assert any(line.startswith("FAIL  Could not check cuda") for line in report)
    assert any("Output folder" in line for line in report)


def test_an_output_folder_that_cannot_be_made_fails(tmp_path):
    (tmp_path / "file").write_text("")
    (line,) = lines(doctor.check_output_folder(tmp_path / "file" / "output"))
    assert line.startswith("FAIL  Output folder") and "Set OUTPUT_DIR" in line


def test_an_output_folder_is_tried_without_leaving_anything(tmp_path):
    (line,) = lines(doctor.check_output_folder(tmp_path / "new" / "output"))
    assert "is writable" in line
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_config_and_an_unknown_dataset_fail(tmp_path):
    assert lines(doctor.check_config(str(tmp_path / "none.yaml")))[0].startswith("FAIL  Config: ")
    assert lines(doctor.check_dataset("no_such_dataset"))[0].startswith("FAIL  Dataset no_such_dataset is no folder")


def test_a_sound_dataset_is_counted(coco):
    report = lines(doctor.check_dataset(str(coco)))
    assert report == ["ok    train: 1 image, 1 object, 1 class", "ok    val: 1 image, 1 object, 1 class"]


def test_a_broken_dataset_is_one_failure_with_the_reason(coco):
    (coco / "val2017" / "a.png").unlink()
    first, *rest = lines(doctor.check_dataset(str(coco)))
    assert first.startswith("ok") and len(rest) == 1
    assert rest[0].startswith("FAIL  val: 1 images are missing, first a.png. Copy them")


def test_a_folder_in_no_known_layout_fails(tmp_path):
    (line,) = lines(doctor.check_dataset(str(tmp_path)))
    assert line.startswith("FAIL  dataset: 1 reason why it cannot be read") and "has no known layout" in line

