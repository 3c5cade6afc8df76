"""Drawn images of an evaluation."""

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from insta_rtdetr.evaluation.gallery import GAP, LINE, PANEL_SIDE, VERDICT_COLORS, write_galleries
from insta_rtdetr.evaluation.mistakes import DUPLICATE, MISSED, RIGHT
from tests.evaluation.test_mistakes import SIDE, square


@pytest.fixture
def dataset(tmp_path):
    """Twelve grey images with an object each; the first three have a file."""

    def make(num_images: int = 12, num_files: int = 12, num_classes: int = 1) -> COCO:
        (tmp_path / "images").mkdir()
        for id_ in range(1, num_files + 1):
            Image.new("RGB", (SIDE, SIDE), (100, 100, 100)).save(tmp_path / "images" / f"{id_}.png")
        truth = COCO()
        ids = range(1, num_images + 1)
        images = [{"id": id_, "file_name": f"{id_}.png", "height": SIDE, "width": SIDE} for id_ in ids]
        truth.dataset = {
            "images": images,
            "annotations": [square(2, 2, 10, 10, id=one["id"], iscrowd=0) | {"image_id": one["id"]} for one in images],
            "categories": [{"id": id_, "name": f"class {id_}"} for id_ in range(1, num_classes + 1)],
        }
        truth.createIndex()
        return truth

    return make


def write(truth: COCO, found: list[dict], tmp_path) -> dict[str, np.ndarray]:
    write_galleries(truth, found, str(tmp_path / "images"), tmp_path)
    return {file.name: np.asarray(Image.open(file)) for file in tmp_path.glob("*.png")}


def has(image: np.ndarray, verdict: str) -> bool:
    """Whether an outline has the verdict's colour, up to what smoothing mixes in.  Tints are far from it."""
    return (np.abs(image.astype(int) - VERDICT_COLORS[verdict]).max(axis=2) < 30).any()


def test_eight_images_two_in_a_row_with_truth_and_prediction(dataset, tmp_path):
    images = write(dataset(), [], tmp_path)
    width = 2 * (2 * PANEL_SIDE + 3 * GAP)
    pair_height = PANEL_SIDE + 2 * LINE + GAP
    assert images["predictions.png"].shape == (4 * pair_height + 2 * LINE, width, 3)
    assert images["worst.png"].shape == (4 * pair_height + 4 * LINE, width, 3)


def test_the_worst_are_those_with_the_most_mistakes_in_the_colours_of_these(dataset, tmp_path):
    hits = [square(2, 2, 10, 10, score=0.9) | {"image_id": id_} for id_ in range(1, 13)]
    second = square(3, 2, 10, 10, score=0.95) | {"image_id": 7}
    worst = write(dataset(), [*hits, second], tmp_path)["worst.png"]
    assert worst.shape[0] == PANEL_SIDE + 2 * LINE + GAP + 4 * LINE  # one image has one
    panels = worst[6 * LINE : 6 * LINE + PANEL_SIDE]
    left, right = panels[:, GAP : GAP + PANEL_SIDE], panels[:, 2 * GAP + PANEL_SIDE :]
    assert has(left, RIGHT) and not has(left, MISSED) and not has(left, DUPLICATE)
    assert has(right, RIGHT) and has(right, DUPLICATE) and not has(right, MISSED)


def test_without_mistakes_there_is_no_worst_image_and_an_old_one_goes(dataset, tmp_path):
    (tmp_path / "worst.png").write_bytes(b"of an earlier evaluation")
    hits = [square(2, 2, 10, 10, score=0.9) | {"image_id": id_} for id_ in range(1, 13)]
    assert set(write(dataset(), hits, tmp_path)) == {"predictions.png"}


def test_images_that_cannot_be_read_are_left_out(dataset, tmp_path):
    images = write(dataset(num_images=4, num_files=1), [], tmp_path)
    assert images["predictions.png"].shape[1] == 2 * PANEL_SIDE + 3 * GAP


def test_no_image_can_be_read(dataset, tmp_path):
    assert write(dataset(num_files=0), [], tmp_path) == {}


def test_boxes_of_several_classes_are_drawn_with_their_names(dataset, tmp_path):
    truth = dataset(num_images=1, num_files=1, num_classes=2)
    box = {key: value for key, value in square(2, 2, 10, 10, score=0.9).items() if key != "segmentation"}
    named = write(truth, [box], tmp_path)["predictions.png"]
    truth.cats.pop(2)
    unnamed = write(truth, [box], tmp_path)["predictions.png"]
    assert named.shape == unnamed.shape and (named != unnamed).any()
