"""The command: what it says of wrong options, and the examples it offers."""

import socket
import sys

import pytest

from insta_rtdetr.data.toy_scenes import CATEGORIES
from insta_rtdetr.errors import UserError
from insta_rtdetr.web.__main__ import main
from insta_rtdetr.web.examples import examples_for
from insta_rtdetr.web.limits import Limits, decode_upload

from ..predict.conftest import images  # noqa: F401


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--model absent --port 0", "absent"),
        ("--port 0", "--model"),
        ("--model absent --port 70000", "--port"),
        ("--model absent --port 0 --threshold 2", "--threshold"),
        ("--model absent --port 0 --max-megapixels 0", "--max-megapixels"),
        ("--model absent --port 0 --host 192.0.2.1", "192.0.2.1"),
    ],
)
def test_a_wrong_option_is_one_line(capsys, options, word):
    assert main(options.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and word in error


def test_a_taken_port_is_told_before_the_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--model", "absent", "--port", str(port)]) == 1
    assert f"port {port}" in capsys.readouterr().err


def test_the_examples_show_what_the_model_knows():
    toy = examples_for(tuple(CATEGORIES), None)
    assert list(toy) == ["coins.jpg", "scene_1.jpg", "scene_2.jpg", "scene_3.jpg"]
    for example in toy.values():
        assert min(decode_upload(example.content, Limits()).shape[:2]) > 100
    assert list(examples_for(("cat", "dog"), None)) == ["chelsea.jpg"]
    assert list(examples_for(("nucleus",), None)) == [f"nuclei_{number}.jpg" for number in (1, 2, 3)]


def test_a_model_of_other_classes_has_all_examples_even_without_scikit_image(monkeypatch):
    found = examples_for(("road",), None)
    assert {"coins.jpg", "stereo_motorcycle.jpg", "scene_1.jpg", "nuclei_1.jpg"} <= set(found)
    for example in found.values():
        assert decode_upload(example.content, Limits()).shape[2] == 3
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert {"scene_1.jpg", "nuclei_1.jpg"} <= set(examples_for(("road",), None)) < set(found)


def test_a_folder_gives_its_images(images, tmp_path):  # noqa: F811
    found = examples_for(("coin",), images)
    assert [(name, example.media_type) for name, example in found.items()] == [
        ("a.png", "image/png"), ("b.bmp", "image/bmp"), ("c.png", "image/png"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="not found"):
        examples_for(("coin",), tmp_path / "absent")
