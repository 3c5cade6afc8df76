"""tools/predict.py: what is in its folder, and that a killed run goes on."""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from insta_rtdetr.predict import command_line
from insta_rtdetr.predict.journal import Journal
from insta_rtdetr.predict.offline import JOURNAL_NAME, run_identity
from insta_rtdetr.predict.video import read_video
from tests.predict.conftest import noise, write_video

TOOL = Path(__file__).resolve().parents[2] / "tools" / "predict.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The command that tools/predict.py runs."""
    return command_line


def command(model_folder: Path, *more: object, threshold: float = 0.0) -> list[str]:
    model = ["--model", model_folder / "tiny.yaml", "--weights", model_folder / "tiny.pth", "--threshold", threshold]
    return [str(word) for word in (*model, *more)]


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def load(folder: Path) -> tuple[COCO, COCO]:
    """images.json, and predictions.json loaded against it."""
    with contextlib.redirect_stdout(io.StringIO()):
        images = COCO(str(folder / "images.json"))
        return images, images.loadRes(str(folder / "predictions.json"))


def test_images_and_json_are_those_of_the_python_interface(tool, model, model_folder, images, tmp_path):
    out = tmp_path / "out"
    assert tool.main(command(model_folder, "--input", images, "--output", out)) == 0
    assert names_in(out) == ["a.png", "b.bmp", "c.png", "images.json", "predictions.json"]
    expected = list(model.predict(images, threshold=0))
    images, found = load(out)
    for image_id, result in enumerate(expected, start=1):
        assert images.loadImgs(image_id) == [result.to_coco_image(image_id)]
        told = found.loadAnns(found.getAnnIds(imgIds=[image_id]))
        assert len(told) == len(result) > 0
        for one, wanted in zip(told, result.to_coco(image_id)):
            # pycocotools writes over area.
            assert {**one, **wanted} == {**one, "area": wanted["area"]}
    assert (np.asarray(Image.open(out / "a.png")) != noise(0)).any()


@pytest.mark.parametrize(
    "save, written", [("img", ["a.png", "video.mp4"]), ("json", ["images.json", "predictions.json"])]
)
def test_save_decides_what_is_written(tool, model_folder, images, tmp_path, save, written):
    write_video(tmp_path / "video.mp4", num_frames=3)
    inputs = ["--input", tmp_path / "video.mp4", images / "a.png", "--save", save, "--batch-size", 2]
    assert tool.main(command(model_folder, *inputs, "--output", tmp_path / "out")) == 0
    assert names_in(tmp_path / "out") == written
    if save == "img":
        assert len(list(read_video(str(tmp_path / "out" / "video.mp4")))) == 3
    else:
        images, found = load(tmp_path / "out")
        assert [image.get("frame") for image in images.dataset["images"]] == [0, 1, 2, None]
        assert {one["image_id"] for one in found.dataset["annotations"]} == {1, 2, 3, 4}


def test_cocos_file_names_give_cocos_ids(tool, model_folder, images, tmp_path):
    for name, number in (("a.png", "000000000139"), ("b.bmp", "7"), ("c.png", "42")):
        (images / name).rename(images / f"{number}{name[1:]}")
    assert tool.main(command(model_folder, "--input", images, "--output", tmp_path, "--save", "json")) == 0
    assert {one["image_id"] for one in load(tmp_path)[1].dataset["annotations"]} == {139, 7, 42}


def test_a_list_of_files_is_read_and_what_cannot_be_read_is_named(tool, model_folder, images, tmp_path, capsys):
    (images / "b.bmp").write_bytes(b"no image")
    (tmp_path / "files.txt").write_text("".join(f"{images / name}\n" for name in ("c.png", "b.bmp", "a.png")))
    arguments = ["--input", f"@{tmp_path / 'files.txt'}", "--output", tmp_path / "out", "--save", "json"]
    assert tool.main(command(model_folder, *arguments)) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "b.bmp" in errors[0] and errors[-1] == "error: 1 inputs could not be read, see above."
    images = load(tmp_path / "out")[0].dataset["images"]
    assert [(image["id"], Path(image["file_name"]).name) for image in images] == [(1, "c.png"), (2, "a.png")]


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_goes_on_and_nothing_is_lost_or_half_written(tool, model_folder, tmp_path):
    folder, out, whole = tmp_path / "in", tmp_path / "out", tmp_path / "whole"
    folder.mkdir()
    for index in range(30):
        Image.fromarray(noise(index)).save(folder / f"p{index:02d}.png")
    arguments = command(model_folder, "--input", folder, "--output", out)
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(TOOL), *arguments], env=environment)
    journal = out / JOURNAL_NAME
    deadline = time.monotonic() + 300
    while not (journal.exists() and journal.read_bytes().count(b'"is_last": true') >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = sorted(json.loads(line)["name"] for line in journal.read_bytes().splitlines() if b'"is_last": true' in line)
    assert 3 <= len(done) < 30 and not (out / "predictions.json").exists()
    drawn = [file for file in out.glob("p*.png")]
    for file in drawn:
        assert np.asarray(Image.open(file)).shape == noise(0).shape
    times = {file: file.stat().st_mtime_ns for file in drawn if str(folder / file.name) in done}

    assert tool.main(arguments) == 0
    assert tool.main(command(model_folder, "--input", folder, "--output", whole, "--save", "json")) == 0
    for name in ("predictions.json", "images.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert {file: file.stat().st_mtime_ns for file in times} == times, "what was done has been done again"
    assert len(list(out.glob("p*.png"))) == 30 and not journal.exists()


@pytest.mark.parametrize(
    ("stop", "code"), [(KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1)]
)
def test_a_video_goes_on_where_it_stopped(tool, model_folder, tmp_path, monkeypatch, capsys, stop, code):
    write_video(tmp_path / "video.avi", num_frames=6)
    arguments = command(model_folder, "--input", tmp_path / "video.avi", "--save", "json", "--output")
    assert tool.main([*arguments, str(tmp_path / "whole")]) == 0
    add, seen = Journal.add, []

    def add_or_die(journal: Journal, record: dict) -> None:
        if len(seen) == 4:
            raise stop
        add(journal, record)
        seen.extend([record["frame"]] if "height" in record else [])

    monkeypatch.setattr(Journal, "add", add_or_die)
    assert tool.main([*arguments, str(tmp_path / "out")]) == code
    assert "the same command goes on from here" in capsys.readouterr().err.lower()
    with open(tmp_path / "out" / JOURNAL_NAME, "ab") as file:
        file.write(b'{"name": "cut of')

    def add_and_note(journal: Journal, record: dict) -> None:
        seen.append(record.get("frame"))
        add(journal, record)

    monkeypatch.setattr(Journal, "add", add_and_note)
    assert tool.main([*arguments, str(tmp_path / "out")]) == 0
    assert [frame for frame in seen if frame is not None] == [0, 1, 2, 3, 4, 5]
    for name in ("predictions.json", "images.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--input", "absent.png"], ["absent.png not found"]),
        (["--input", "in", "--threshold", "2"], ["threshold is 2.0"]),
        (["--input", "in", "--batch-size", "0"], ["batch_size is 0"]),
        (["--input", "in", "--workers", "-1"], ["workers is -1"]),
        (["--input", "in", "--save", "xml"], ["--save", "xml"]),
        (["--input", "in", "--device", "tpu"], ["tpu"]),
        (["--input", "in", "--opts", "MODEL.WEIGHTZ", "x"], ["MODEL.WEIGHTZ"]),
        (["--input", "in", "--output", "in"], ["replace the input", "a.png"]),
        (["--input", "in", "--output", "in/a.png"], ["in/a.png", "cannot be made"]),
        (["--output", "out"], ["--input"]),
    ],
)
def test_wrong_input_is_named_in_one_line(
    tool, model_folder, images, tmp_path, capsys, monkeypatch, arguments, parts
):
    monkeypatch.chdir(tmp_path)
    assert tool.main(command(model_folder, "--output", "out", *arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    for part in parts:
        assert part in error, error
    assert len(names_in(images)) == 4 and not list(tmp_path.glob("out/*.json"))


def test_an_unfinished_run_is_not_mixed_with_another_one(tool, model_folder, images, tmp_path, capsys):
    job = tool.parse(command(model_folder, "--input", images, "--output", tmp_path))
    journal = Journal(tmp_path / JOURNAL_NAME, run_identity(job))
    arguments = command(model_folder, "--input", images, "--output", tmp_path, threshold=0.25)
    assert tool.main(arguments) == 1
    assert "Another run writes to" in capsys.readouterr().err
    journal.close()
    assert tool.main(arguments) == 1
    error = capsys.readouterr().err
    assert "unfinished run" in error and "threshold" in error and "0.25" in error
