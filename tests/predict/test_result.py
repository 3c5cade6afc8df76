"""What can be had of a result."""

import contextlib
import io
import json
import sys

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image, ImageShow
from pycocotools.coco import COCO

from insta_rtdetr.errors import UserError
from insta_rtdetr.predict import Result
from insta_rtdetr.predict.categories import Categories
from tests.predict.conftest import HEIGHT, WIDTH, noise

CATEGORIES = Categories(("cat", "dog"), (7, 9))


@pytest.fixture
def result() -> Result:
    """A dog, and a cat at the upper left."""
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(torch.tensor([[10.0, 20, 30, 40], [0, 0, 8, 6]]))
    instances.scores = torch.tensor([0.75, 0.5])
    instances.pred_classes = torch.tensor([1, 0])
    instances.pred_masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    instances.pred_masks[0, 20:40, 10:30] = True
    instances.pred_masks[1, :6, :8] = True
    return Result(noise(0), instances, CATEGORIES, "photos/pets.jpg")


def test_numbers_are_arrays_and_names_are_told(result):
    assert result.boxes.tolist() == [[10, 20, 30, 40], [0, 0, 8, 6]] and result.scores.tolist() == [0.75, 0.5]
    assert result.class_ids.tolist() == [1, 0] and result.class_names == ["dog", "cat"]
    assert result.masks.dtype == bool and result.masks.sum(axis=(1, 2)).tolist() == [400, 48]


def test_print_names_the_image_and_each_object(result, capsys):
    result.print()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "photos/pets.jpg: 1 dog, 1 cat"
    assert lines[3].split() == ["dog", "0.75", "10", "20", "30", "40"] and lines[4].split()[:2] == ["cat", "0.5"]
    Result(noise(0), result.instances[:0], CATEGORIES, "video.mp4", 3).print()
    assert capsys.readouterr().out == "video.mp4, frame 3: nothing found\n"


def test_coco_results_load_and_are_the_masks(result, tmp_path):
    file = result.save_to_json(tmp_path / "new" / "one.json")
    assert [path.name for path in file.parent.iterdir()] == ["one.json"]
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO(str(file))
        loaded = dataset.loadRes(result.to_coco(image_id=1))
    assert dataset.loadImgs(1)[0] == {"id": 1, "file_name": "photos/pets.jpg", "height": HEIGHT, "width": WIDTH}
    assert [category["name"] for category in dataset.loadCats([7, 9])] == ["cat", "dog"]
    found = loaded.loadAnns(loaded.getAnnIds(imgIds=[1]))
    assert [one["category_id"] for one in found] == [9, 7] and [one["score"] for one in found] == [0.75, 0.5]
    assert found[0]["bbox"] == [10, 20, 20, 20] and found[1]["area"] == 48
    for one, mask in zip(found, result.masks):
        assert (coco_mask.decode(one["segmentation"]).astype(bool) == mask).all()
    # The file by itself is a dataset with these objects.
    assert [one["score"] for one in dataset.loadAnns(dataset.getAnnIds())] == [0.75, 0.5]


def test_more_than_255_objects_have_areas(result):
    many = Instances((HEIGHT, WIDTH))
    for name, values in result.instances.get_fields().items():
        many.set(name, type(values).cat([values] * 150) if name == "pred_boxes" else torch.cat([values] * 150))
    assert [one["area"] for one in Result(noise(0), many, CATEGORIES, "many.png").to_coco()] == [400, 48] * 150


def test_supervision_gets_everything(result):
    supervision = pytest.importorskip("supervision")
    detections = result.to_supervision()
    assert isinstance(detections, supervision.Detections) and len(detections) == 2
    assert (detections.xyxy == result.boxes).all() and (detections.mask == result.masks).all()
    assert (detections.confidence == result.scores).all() and (detections.class_id == result.class_ids).all()
    assert detections.data["class_name"].tolist() == ["dog", "cat"]
    assert len(Result(noise(0), result.instances[:0], CATEGORIES, "x").to_supervision()) == 0


def test_without_supervision_its_name_is_told(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        result.to_supervision()


def test_drawn_images_are_written_to_files_and_folders(result, tmp_path):
    assert result.save_to_img(tmp_path / "found.png") == tmp_path / "found.png"
    drawn = np.asarray(Image.open(tmp_path / "found.png"))
    assert drawn.shape == (HEIGHT, WIDTH, 3) and (drawn != noise(0)).any()
    assert result.draw(scale=2).shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert result.save_to_img(f"{tmp_path}/folder/") == tmp_path / "folder" / "pets.jpg"
    frame = Result(noise(0), result.instances, CATEGORIES, "https://there/video.mp4?x=1", 12)
    assert frame.save_to_img(tmp_path) == tmp_path / "video_000012.png"
    assert json.loads(frame.save_to_json(tmp_path).read_text())["images"][0]["frame"] == 12


def test_the_source_is_not_replaced(result, tmp_path):
    result.source = str(tmp_path / "pets.png")
    Image.fromarray(noise(0)).save(result.source)
    with pytest.raises(UserError, match=r"replace the input .*pets.png"):
        result.save_to_img(tmp_path)
    assert (np.asarray(Image.open(result.source)) == noise(0)).all()


def test_a_folder_that_cannot_be_made_is_named(result, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be made"):
        result.save_to_img(tmp_path / "file" / "below")


def test_a_file_that_cannot_be_written_is_named(result, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    for save, name in ((result.save_to_img, "found.png"), (result.save_to_json, "found.json")):
        with pytest.raises(UserError, match=f"{name} cannot be written: No space"):
            save(tmp_path / name)


def test_show_gives_the_drawn_image_to_a_viewer_or_says_that_there_is_none(result, monkeypatch):
    shown = []

    def viewer(image: Image.Image, title: str) -> bool:
        shown.append((image.size, title))
        return len(shown) == 1

    monkeypatch.setattr(ImageShow, "show", viewer)
    result.show()
    assert shown == [((WIDTH, HEIGHT), "pets")]
    with pytest.raises(UserError, match="save_to_img"):
        result.show()


def test_a_model_without_masks_has_boxes(result, tmp_path):
    result.instances.remove("pred_masks")
    assert result.masks is None and "segmentation" not in result.to_coco()[0]
    assert result.save_to_img(tmp_path / "boxes.png").is_file()
