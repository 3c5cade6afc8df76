"""Model.predict: what it takes, what it gives, and what it says of wrong input."""

import functools
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from insta_rtdetr.errors import ImageError, UserError
from insta_rtdetr.layers.rle_masks import RleMasks
from insta_rtdetr.predict import Result
from insta_rtdetr.predict.model import above
from insta_rtdetr.visualization import read_image
from tests.predict.conftest import HEIGHT, WIDTH, noise, write_video


@pytest.fixture
def address(images):
    """Where a server on this machine serves the images."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(images)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def assert_same(left: Result, right: Result) -> None:
    assert len(left) == len(right) > 0
    np.testing.assert_allclose(left.scores, right.scores, atol=1e-5)
    np.testing.assert_allclose(left.boxes, right.boxes, atol=1e-2)
    assert (left.class_ids == right.class_ids).all() and (left.masks != right.masks).mean() < 1e-3


def test_every_kind_of_input_gives_the_same(model, images, address):
    file = images / "a.png"
    expected = next(model.predict(file, threshold=0))
    kinds = {
        "text": str(file), "pattern": f"{images}/a*", "address": f"{address}/a.png?size=large",
        "PIL": Image.open(file), "array": noise(0), "list": [noise(0)],
    }  # fmt: skip
    for kind, source in kinds.items():
        (result,) = model.predict(source, threshold=0)
        assert_same(result, expected)
        assert result.source == {"text": str(file), "pattern": str(file), "address": source}.get(kind, "image_1")
        assert (result.image == noise(0)).all() and result.frame is None


def test_arrays_are_rgb(model, images):
    expected, turned = (next(model.predict(image, threshold=0)) for image in (noise(0), noise(0)[:, :, ::-1]))
    assert not np.allclose(expected.scores, turned.scores)


def test_lists_mix_kinds_and_folders_are_in_order(model, images):
    results = list(model.predict([noise(5), images, Image.fromarray(noise(6))], threshold=0))
    assert [Path(result.source).name for result in results] == ["image_1", "a.png", "b.bmp", "c.png", "image_3"]


def test_batches_change_nothing(model, images):
    ones = list(model.predict(images, threshold=0, batch_size=1))
    threes = list(model.predict(images, threshold=0, batch_size=3))
    assert len(ones) == len(threes) == 3
    for one, three in zip(ones, threes):
        assert one.source == three.source
        assert_same(one, three)


@pytest.mark.parametrize("name", ["video.mp4", "video.avi"])
def test_a_video_gives_a_result_for_each_frame(model, tmp_path, name):
    write_video(tmp_path / name, num_frames=4)
    results = list(model.predict(tmp_path / name, threshold=0, batch_size=3))
    assert [result.frame for result in results] == [0, 1, 2, 3]
    assert {result.image.shape for result in results} == {(HEIGHT, WIDTH, 3)}
    assert {result.source for result in results} == {str(tmp_path / name)}
    # The writer was given noise(0) as BGR.
    assert np.abs(results[0].image[:, :, ::-1].astype(int) - noise(0)).mean() < 60


def test_results_come_one_by_one(model, images):
    (images / "b.bmp").write_bytes(b"no image")
    results = model.predict([images / "a.png", images / "b.bmp"])
    assert next(results).source.endswith("a.png")  # and nobody has looked at the second one


def test_the_threshold_decides(model):
    everything = next(model.predict(noise(0), threshold=0))
    threshold = float(np.median(everything.scores))
    low, high = model.predict(noise(0), threshold=0), model.predict(noise(0), threshold=threshold)
    kept = next(high)
    assert 0 < len(kept) < len(everything) and kept.scores.min() >= threshold
    # Two runs at once do not mix up their thresholds.
    assert len(next(low)) == len(everything)
    assert len(above(everything.instances, 1.1)) == 0


def test_a_image_without_objects_has_a_result(model):
    (result,) = model.predict(noise(0), threshold=1.0)
    assert len(result) == 0 and result.masks.shape == (0, HEIGHT, WIDTH) and result.boxes.shape == (0, 4)


def test_an_unreadable_image_is_named_and_counted_and_the_others_are_done(model, images, caplog):
    (images / "b.bmp").write_bytes(b"no image")
    (images / "cut.png").write_bytes((images / "a.png").read_bytes()[:200])
    results = list(model.predict(images, threshold=0, batch_size=2))
    assert [Path(result.source).name for result in results] == ["a.png", "c.png"]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 3 and "b.bmp" in warnings[0] and "cut.png" in warnings[1] and "2 of 4" in warnings[2]


def test_the_only_image_that_cannot_be_read_is_an_error(model, tmp_path, address):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for source in (tmp_path / "broken.jpg", tmp_path / "broken.mp4", f"{address}/absent.png", f"{address}/notes.txt"):
        with pytest.raises(ImageError) as caught:
            list(model.predict(source))
        assert str(source) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source, parts",
    [
        ("absent.png", ["absent.png not found"]),
        ("absent/*.png", ["absent/*.png", "matches no file"]),
        (".", ["folder without images"]),
        ([], ["empty"]),
        (None, ["NoneType", "wanted a path"]),
        ([noise(0), 3], ["Image 2 is a int"]),
        (noise(0).astype(np.float32), ["float32", "uint8"]),
        (noise(0)[:, :, 0], ["(48, 80)", "(H, W, 3)"]),
        (torch.zeros(3, 4, 4), ["Tensor", "wanted a path"]),
    ],
)
def test_wrong_input_is_named_at_once(model, source, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        model.predict(source)
    for part in parts:
        assert part in str(caught.value), caught.value


@pytest.mark.parametrize(
    "option, value",
    [
        ("threshold", 1.5), ("threshold", -0.1), ("threshold", float("nan")), ("threshold", "0.5"), ("threshold", None),
        ("batch_size", 0), ("batch_size", 1.5), ("batch_size", "2"), ("batch_size", 10**30),
    ])
def test_wrong_options_are_named_at_once(model, option, value):
    with pytest.raises(UserError, match=f"{option} is {value}"):
        model.predict(noise(0), **{option: value})


def test_pil_images_are_seen_as_their_files(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(0)).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(noise(0)[:, :, 0].astype(np.uint16) * 257).save(tmp_path / "16_bits.png")
    for name, shape in (("turned.jpg", (WIDTH, HEIGHT, 3)), ("16_bits.png", (HEIGHT, WIDTH, 3))):
        image = Image.open(tmp_path / name)
        size = image.size
        (found,), (expected,) = model.predict(image), model.predict(tmp_path / name)
        assert found.image.shape == shape and (found.image == expected.image).all() and image.size == size


def test_a_broken_pil_image_is_named_and_the_others_are_done(model, images, tmp_path, caplog):
    (tmp_path / "cut.png").write_bytes((images / "a.png").read_bytes()[:2000])
    closed = Image.open(images / "c.png")
    closed.close()
    images = [Image.open(tmp_path / "cut.png"), closed, Image.new("RGB", (0, 0)), Image.open(images / "a.png")]
    assert [result.source for result in model.predict(images)] == ["image_4"]
    assert [f"image_{i}" in caplog.text for i in (1, 2, 3, 4)] == [True, True, True, False]
    for image in images[:3]:
        with pytest.raises(ImageError, match="image_1"):
            list(model.predict(image))


def test_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(noise(0)).save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png").shape == (WIDTH, HEIGHT, 3)

def test_results_are_the_same_in_either_form(model, monkeypatch):
    expected = next(model.predict(noise(0), threshold=0))
    monkeypatch.setattr(model, "masks_as_rle", True)
    found = next(model.predict(noise(0), threshold=0))
    assert isinstance(found.instances.pred_masks, RleMasks) and not isinstance(expected.instances.pred_masks, RleMasks)
    assert (found.masks == expected.masks).all() and found.masks.any()
    assert found.to_coco() == expected.to_coco() and found.draw().shape == noise(0).shape
    threshold = float(np.median(expected.scores))
    assert 0 < len(next(model.predict(noise(0), threshold=threshold)).masks) < len(expected)
