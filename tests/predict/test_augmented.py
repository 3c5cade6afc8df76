"""Prediction with test-time augmentation: every way in, and exported files."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from insta_rtdetr import create_model
from insta_rtdetr.errors import UserError
from insta_rtdetr.export import command_line as export
from insta_rtdetr.predict import command_line
from insta_rtdetr.predict.predictor import LOWEST_SCORE
from insta_rtdetr.views.augmentation import Augmentation, View
from insta_rtdetr.views.votes import merge_views
from tests.predict.conftest import noise
from tests.views.grey import GreyModel, draw

FLIPS = Augmentation((View(), View(flip_x=True)), max_objects=100)
DISCS = [(20, 30, 8), (75, 150, 20), (140, 5, 9)]


class FlippableGreyModel(GreyModel):
    """Model that is surer of what lies on the left, and notes the thresholds that it is asked for."""

    augmentation = FLIPS

    def __init__(self) -> None:
        self.thresholds: list[float] = []

    def find(self, images, threshold, short_side=0):
        self.thresholds.append(threshold)
        found = super().find(images, 0)
        for one in found:
            one.scores = 0.9 - 0.8 * one.pred_boxes.get_centers()[:, 0] / one.image_size[1]
        return [one[one.scores >= threshold] for one in found]


@pytest.mark.parametrize("tile", [0, 110])
def test_scores_are_means_and_the_threshold_is_for_them(tile):
    # An object's scores in the two views add up to 1.
    model = FlippableGreyModel()
    (found,) = model.predict(draw(*DISCS), threshold=0.499, tile=tile, overlap=0.5, augment=True)
    (expected,) = GreyModel().predict(draw(*DISCS))
    assert sorted(map(bytes, found.masks)) == sorted(map(bytes, expected.masks))
    assert found.scores.tolist() == pytest.approx([0.5] * 3) and set(model.thresholds) == {LOWEST_SCORE}
    assert len(next(model.predict(draw(*DISCS), threshold=0.501, tile=tile, overlap=0.5, augment=True))) == 0


def test_tracks_may_be_augmented():
    results = list(FlippableGreyModel().track([draw(*DISCS)] * 3, threshold=0.4, augment=True))
    assert [len(result) for result in results] == [0, 3, 3]


def exported(model_folder, tmp_path):
    file = tmp_path / "tiny.onnx"
    arguments = ["--model", model_folder / "tiny.yaml", "--weights", model_folder / "tiny.pth", "--output", file]
    assert export.main([str(word) for word in arguments]) == 0
    return create_model(file)


def test_models_and_exported_files_merge_what_their_views_show(model, model_folder, tmp_path, caplog):
    image = noise(0, 50, 70)
    for one in (model, exported(model_folder, tmp_path)):
        with caplog.at_level(logging.WARNING):
            (found,) = one.predict(image, threshold=0, augment=True)
            (again,) = one.predict(image, threshold=0, augment=True)
        views = one.augmentation.views
        assert views == FLIPS.views
        expected = merge_views([view.undo(one.find([view.apply(image)], 0)[0]) for view in views])
        assert found.instances.pred_masks.rles == again.instances.pred_masks.rles
        assert found.instances.pred_masks.rles == expected.pred_masks.rles[: one.augmentation.max_objects]
        assert found.scores.tolist() == pytest.approx(expected.scores.tolist()[: len(found)]) and len(found) > 3
        assert one.masks_as_rle is False
    # Of the file, one line says once that it has one size.
    assert [record.getMessage() for record in caplog.records] == [
        "2 views of each image, mirrored left to right, and none of other sizes: the file takes 64 x 64 pixels"
    ]
    with pytest.raises(UserError, match="short_side is 96"):
        one.find([image], 0, 96)


def test_what_cannot_be_augmented_is_refused_at_once(model_folder):
    opts = ["INPUT.RANDOM_FLIP", "none"]
    model = create_model(model_folder / "tiny.yaml", model_folder / "tiny.pth", opts=opts)
    with pytest.raises(UserError, match="has one view"):
        model.predict(noise(0), augment=True)


def test_the_command_line_gives_what_the_python_interface_gives(model, model_folder, tmp_path):
    Image.fromarray(noise(0, 50, 70)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    arguments = ["--model", model_folder / "tiny.yaml", "--weights", model_folder / "tiny.pth", "--threshold", 0]
    arguments += ["--input", tmp_path / "a.png", "--output", out, "--augment"]
    assert command_line.main([str(word) for word in arguments]) == 0
    (expected,) = model.predict(tmp_path / "a.png", threshold=0, augment=True)
    (plain,) = model.predict(tmp_path / "a.png", threshold=0)
    found = json.loads((out / "predictions.json").read_text())
    assert found == json.loads(json.dumps(expected.to_coco())) != json.loads(json.dumps(plain.to_coco()))
    assert np.asarray(Image.open(out / "a.png")).shape == (50, 70, 3)
