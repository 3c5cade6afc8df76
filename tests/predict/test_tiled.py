"""Prediction in tiles: from the file to the result, for every model, by every way in."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from insta_rtdetr import create_model
from insta_rtdetr.errors import ImageError, UserError
from insta_rtdetr.export import command_line as export
from insta_rtdetr.layers.rle_masks import RleMasks
from insta_rtdetr.predict import command_line, windows
from insta_rtdetr.predict.windows import WindowedImage, open_image
from insta_rtdetr.visualization import read_image
from tests.predict.conftest import noise
from tests.views.grey import HEIGHT, WIDTH, GreyModel, draw

DISCS = [(y, x, 5) for y in range(8, HEIGHT - 6, 26) for x in range(7, WIDTH - 6, 26)]


@pytest.fixture
def any_size(monkeypatch):
    """Files of any size are read by crops."""
    pytest.importorskip("rasterio")
    monkeypatch.setattr(windows, "MIN_PIXELS", 1)


def save(image: np.ndarray, file, mode: str = "RGB", **options) -> None:
    Image.fromarray(image).convert(mode).save(file, **options)


@pytest.mark.parametrize("name, options", [("a.png", {}), ("a.tif", {}), ("b.tif", {"compression": "tiff_lzw"})])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_crops_of_a_file_are_those_of_the_whole_image(any_size, tmp_path, name, options, mode):
    save(noise(0, 61, 83), tmp_path / name, mode, **options)
    image, expected = open_image(str(tmp_path / name)), read_image(tmp_path / name)
    assert isinstance(image, WindowedImage) and image.shape == expected.shape and len(image) == 61
    assert (np.asarray(image) == expected).all()
    for crop in (np.s_[0:20, 5:83], np.s_[40:61, 0:1], np.s_[3:4, :]):
        assert (image[crop] == expected[crop]).all()


def test_files_that_cannot_be_read_by_crops_are_read_whole(any_size, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(noise(0), tmp_path / "turned.jpg", exif=exif)
    save(noise(0), tmp_path / "palette.png", "P")
    save(noise(0), tmp_path / "image.bmp")
    Image.fromarray(noise(0)[:, :, 0].astype(np.uint16) * 257).save(tmp_path / "16_bits.png")
    for file in tmp_path.iterdir():
        assert (open_image(str(file)) == read_image(file)).all()


def test_a_damaged_file_is_named(any_size, tmp_path):
    save(noise(0, 200, 200), tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60_000])
    with pytest.raises(ImageError, match=r"cut.png cannot be read"):
        list(GreyModel().predict(tmp_path / "cut.png", tile=64))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match=r"text.png cannot be read"):
        list(GreyModel().predict(tmp_path / "text.png", tile=64))


@pytest.mark.parametrize("has_rasterio", [True, False])
def test_a_file_an_array_and_a_whole_image_give_the_same(any_size, tmp_path, monkeypatch, has_rasterio):
    if not has_rasterio:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    save(draw(*DISCS), tmp_path / "discs.png")
    (from_file,) = GreyModel().predict(tmp_path / "discs.png", tile=64, batch_size=4)
    (from_array,) = GreyModel().predict(draw(*DISCS), tile=64)
    (whole,) = GreyModel().predict(draw(*DISCS))
    assert isinstance(from_file.image, WindowedImage) == has_rasterio
    objects = [sorted(json.dumps(one) for one in found.to_coco()) for found in (from_file, from_array, whole)]
    assert len(objects[0]) == len(DISCS) and objects[0] == objects[1] == objects[2]


def test_wrong_tiles_are_named_at_once():
    for options in ({"tile": -1}, {"tile": 2.5}, {"tile": 64, "overlap": 1}):
        with pytest.raises(UserError, match="wanted"):
            GreyModel().predict(draw(), **options)


def test_masks_of_a_large_image_are_drawn_and_handed_over_without_decoding_all(monkeypatch):
    (found,) = GreyModel().predict(draw(*DISCS), tile=64)
    masks = found.masks
    monkeypatch.setattr(RleMasks, "numpy", lambda self: pytest.fail("All masks are decoded."))
    drawn, enlarged = found.draw(), found.draw(2.0)
    assert drawn.shape == (HEIGHT, WIDTH, 3) and enlarged.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    inside, outside = binary_erosion(masks.any(axis=0)), ~binary_dilation(masks.any(axis=0), iterations=3)
    changed = (drawn != found.image).any(axis=2)
    assert changed[inside].all() and not changed[outside].any()  # There are too many for labels.
    detections = found.to_supervision()
    assert detections.mask.shape == masks.shape and (np.asarray(detections.mask) == masks).all()


def test_models_and_exported_files_take_tiles(model, model_folder, tmp_path):
    file = tmp_path / "tiny.onnx"
    arguments = ["--model", model_folder / "tiny.yaml", "--weights", model_folder / "tiny.pth", "--output", file]
    assert export.main([str(word) for word in arguments]) == 0
    for one in (model, create_model(file)):
        (found,) = one.predict(noise(0, 90, 150), threshold=0, tile=64, batch_size=2)
        assert len(found) > 0 and found.masks.shape == (len(found), 90, 150)
        assert (np.diff(found.scores) <= 0).all() and one.masks_as_rle is False


def test_the_command_line_gives_what_the_python_interface_gives(model, model_folder, tmp_path):
    save(noise(0, 90, 150), tmp_path / "a.png")
    out = tmp_path / "out"
    arguments = ["--model", model_folder / "tiny.yaml", "--weights", model_folder / "tiny.pth", "--threshold", 0]
    arguments += ["--input", tmp_path / "a.png", "--output", out, "--tile", 64, "--overlap", 0.3]
    assert command_line.main([str(word) for word in arguments]) == 0
    (expected,) = model.predict(tmp_path / "a.png", threshold=0, tile=64, overlap=0.3)
    (plain,) = model.predict(tmp_path / "a.png", threshold=0)
    found = json.loads((out / "predictions.json").read_text())
    assert found == json.loads(json.dumps(expected.to_coco())) and len(found) > len(plain) and (out / "a.png").is_file()
    assert command_line.main([str(word) for word in [*arguments, "--overlap", 2]]) == 1
