"""demo.py draws images and videos, and says in one line what is wrong with its input."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2 import model_zoo
from detectron2.modeling import build_model
from PIL import Image

from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.predict.video import read_video
from insta_rtdetr.visualization import write_image
from tests.tiny import MASK_RCNN, SMALL_RCNN, tiny_config, tiny_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))
import demo

HEIGHT, WIDTH = 48, 80


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """Config and random weights of the tiny model."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "tiny.yaml").write_text(tiny_config().dump())
    torch.save({"model": tiny_model().state_dict()}, folder / "tiny.pth")
    return folder


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of three images of different formats, and a file that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate(("a.png", "b.jpg", "c.gif")):
        write_image(noise(index), folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def run(model_folder: Path, *arguments: object, threshold: float = 0.0) -> int:
    options = ["--config-file", model_folder / "tiny.yaml", *arguments, "--confidence-threshold", threshold]
    return demo.main([str(option) for option in [*options, "--opts", "MODEL.WEIGHTS", model_folder / "tiny.pth"]])


def fails(capsys, exit_code: int, *parts: str) -> None:
    """Assert that a run ended with exit code 1 and one line that has these parts."""
    error = capsys.readouterr().err
    assert exit_code == 1 and error.startswith("error: ") and error.count("\n") == 1, error
    for part in parts:
        assert part in error, error


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_drawn_into_a_new_file(model_folder, images, tmp_path):
    target = tmp_path / "new" / "drawn.png"
    assert run(model_folder, "--input", images / "a.png", "--output", target) == 0
    drawn = np.asarray(Image.open(target))
    assert drawn.shape == (HEIGHT, WIDTH, 3) and (drawn != noise(0)).any()
    assert names_in(target.parent) == ["drawn.png"]


def test_folders_globs_and_files_are_drawn_into_a_folder(model_folder, images, tmp_path):
    inputs = [images, str(images / "*.jpg"), images / "a.png"]
    assert run(model_folder, "--input", *inputs, "--output", tmp_path / "out") == 0
    # A gif is written as png; an image that is named twice is drawn once.
    assert names_in(tmp_path / "out") == ["a.png", "b.jpg", "c.png"]


def test_images_of_one_name_do_not_replace_each_other(model_folder, images, tmp_path):
    write_image(noise(7), tmp_path / "a.png")
    assert run(model_folder, "--input", images / "a.png", tmp_path / "a.png", "--output", tmp_path / "out") == 0
    assert names_in(tmp_path / "out") == ["a.png", "a_2.png"]


def test_a_second_run_replaces_the_images_of_the_first(model_folder, images, tmp_path):
    for threshold in (0.0, 1.0):
        assert run(model_folder, "--input", images, "--output", tmp_path / "out", threshold=threshold) == 0
    assert (np.asarray(Image.open(tmp_path / "out" / "a.png")) == noise(0)).all()


def test_an_unreadable_image_is_named_and_the_others_are_drawn(model_folder, images, tmp_path, capsys):
    (images / "b.jpg").write_bytes(b"no image")
    (images / "cut.png").write_bytes((images / "a.png").read_bytes()[:200])
    assert run(model_folder, "--input", images, "--output", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True] * 3
    assert "b.jpg" in lines[0] and "cut.png" in lines[1] and "2 of 4" in lines[2]
    assert names_in(tmp_path / "out") == ["a.png", "c.png"]


def test_the_threshold_decides_what_is_drawn(model_folder, images, tmp_path, capsys):
    for threshold, is_any in ((0.0, True), (1.0, False)):
        target = tmp_path / f"{threshold}.png"
        assert run(model_folder, "--input", images / "a.png", "--output", target, threshold=threshold) == 0
        assert (": 0 objects" not in capsys.readouterr().out) == is_any
        assert (np.asarray(Image.open(target)) != noise(0)).any() == is_any


def write_video(file: Path, num_frames: int = 3) -> None:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (WIDTH, HEIGHT))
    for index in range(num_frames):
        writer.write(noise(index))
    writer.release()


@pytest.mark.parametrize("output, written", [("out", "out/video.mp4"), ("out/drawn.avi", "out/drawn.avi")])
def test_a_video_gives_a_video(model_folder, tmp_path, output, written):
    write_video(tmp_path / "video.mp4")
    assert run(model_folder, "--video-input", tmp_path / "video.mp4", "--output", tmp_path / output) == 0
    assert names_in(tmp_path / "out") == [Path(written).name]
    video = cv2.VideoCapture(str(tmp_path / written))
    frames = list(read_video(str(tmp_path / written)))
    assert len(frames) == 3 and frames[0].shape == (HEIGHT, WIDTH, 3)
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_a_broken_video_is_named_and_leaves_nothing(model_folder, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    code = run(model_folder, "--video-input", tmp_path / "broken.mp4", "--output", tmp_path / "out" / "drawn.mp4")
    fails(capsys, code, "broken.mp4")
    assert not list(tmp_path.rglob("*drawn*"))


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--input", "absent.png", "--output", "out"], ["absent.png", "--input"]),
        (["--input", "absent/*.png", "--output", "out"], ["absent/*.png", "matches no file"]),
        (["--input", "empty", "--output", "out"], ["empty", "without images"]),
        (["--input", "in", "--output", "one.png"], ["one.png", "3 images"]),
        (["--input", "in", "--output", "in"], ["replace the input", "a.png"]),
        (["--video-input", "absent.mp4", "--output", "out"], ["absent.mp4", "not found"]),
        (["--video-input", "in/a.png", "--output", "out"], ["in/a.png", "no video", ".mp4"]),
        (["--video-input", "video.mp4", "--output", "out.xyz"], [".xyz", ".mp4"]),
        (["--input", "video.mp4", "--output", "out"], ["video.mp4", "--video-input"]),
        (["--output", "out"], ["--input", "--webcam"]),
        (["--input", "in", "--webcam"], ["--input", "--webcam"]),
        (["--webcam", "--output", "out"], ["--webcam", "--output"]),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    model_folder, images, tmp_path, capsys, monkeypatch, arguments, parts
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "video.mp4")
    fails(capsys, run(model_folder, *arguments), *parts)
    assert names_in(tmp_path) == ["empty", "in", "video.mp4"] and len(names_in(images)) == 4


def test_a_missing_config_and_missing_weights_are_named(model_folder, images, tmp_path, capsys):
    arguments = ["--input", str(images), "--output", str(tmp_path / "out"), "--config-file"]
    tiny = str(model_folder / "tiny.yaml")
    fails(capsys, demo.main([*arguments, "absent.yaml"]), "absent.yaml")
    fails(capsys, demo.main([*arguments, tiny]), "MODEL.WEIGHTS", "--opts")
    fails(capsys, demo.main([*arguments, tiny, "--opts", "MODEL.WEIGHTS", "absent.pth"]), "absent.pth")
    fails(capsys, demo.main([*arguments, tiny, "--opts", "MODEL.WEIGHTZ", "x.pth"]), "MODEL.WEIGHTZ")
    fails(capsys, demo.main([*arguments, tiny, "--confidence-threshold", "2"]), "--confidence-threshold", "2.0")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_and_no_device_are_named(model_folder, images, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    below = tmp_path / "file" / "below"
    fails(capsys, run(model_folder, "--input", images / "a.png", "--output", below), "--output", str(below))
    arguments = ["--config-file", str(model_folder / "tiny.yaml"), "--input", str(images), "--output", str(below)]
    fails(capsys, demo.main([*arguments, "--opts", "MODEL.DEVICE", "tpu"]), "MODEL.DEVICE is 'tpu'")


def test_without_a_display_the_advice_is_to_use_output(model_folder, images, capsys, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    fails(capsys, run(model_folder, "--input", images), "display", "--output")
    fails(capsys, run(model_folder, "--webcam"), "display", "--output")


def test_a_model_of_detectron2_itself_is_drawn(tmp_path, capsys):
    config_file = model_zoo.get_config_file(f"{MASK_RCNN}.yaml")
    small = [*SMALL_RCNN, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(tmp_path / "small.pth")]
    model = build_model(setup_cfg(config_file, small))
    torch.save({"model": model.state_dict()}, tmp_path / "small.pth")
    write_image(noise(0), tmp_path / "a.png")
    arguments = ["--config-file", config_file, "--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    assert demo.main([*arguments, "--confidence-threshold", "0", "--opts", *small]) == 0
    assert ": 0 objects" not in capsys.readouterr().out
    assert names_in(tmp_path / "out") == ["a.png"]


def test_a_tracked_video_gives_a_video(model_folder, tmp_path):
    write_video(tmp_path / "in.avi")
    assert run(model_folder, "--video-input", tmp_path / "in.avi", "--output", tmp_path / "out.avi", "--track") == 0
    assert len(list(read_video(str(tmp_path / "out.avi")))) == 3
