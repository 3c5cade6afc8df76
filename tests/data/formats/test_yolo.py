"""YOLO segmentation folders become COCO dicts; what is wrong is named with its file and line."""

import pytest
import yaml
from PIL import Image

from insta_rtdetr.data.formats.yolo import label_file, read_yolo, upright_size
from insta_rtdetr.errors import DatasetError
from tests.data.trees import FIRST, HEIGHT, WIDTH, objects, write_yolo


@pytest.fixture
def folder(tmp_path):
    return write_yolo(tmp_path / "data")


def describe(folder, **changes):
    description = yaml.safe_load((folder / "data.yaml").read_text()) | changes
    (folder / "data.yaml").write_text(yaml.safe_dump({k: v for k, v in description.items() if v is not None}))


def first_label(folder, text):
    (folder / "labels" / "train" / "0.txt").write_text(text)


def test_polygons_become_annotations_in_pixels(folder):
    splits = read_yolo(folder)
    assert list(splits) == ["train", "val"]
    content = splits["train"]
    assert content["categories"] == [{"id": 1, "name": "cup"}, {"id": 2, "name": "pen"}]
    assert content["images"][1] == {"id": 2, "file_name": "images/train/1.jpg", "height": HEIGHT, "width": WIDTH}
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4]
    for annotation, rectangle in zip(content["annotations"], [*objects(0), *objects(1)]):
        assert annotation["bbox"] == pytest.approx(rectangle, abs=1e-3)
        assert annotation["area"] == pytest.approx(rectangle[2] * rectangle[3], rel=1e-4)
    assert len(content["annotations"][0]["segmentation"][0]) == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"train": "../images/train"},  # as Roboflow writes what lies beside the file
        {"path": "elsewhere/on/another/machine"},
        {"path": "images", "train": "train", "val": "val"},
        {"train": ["images/train"], "names": ["cup", "pen"]},
        {"train": "train.txt"},
        {"val": None, "valid": "images/val"},
    ],
)
def test_the_ways_to_name_a_split(folder, changes):
    (folder / "train.txt").write_text("./images/train/0.jpg\nimages/train/1.jpg\n")
    describe(folder, **changes)
    splits = read_yolo(folder)
    assert [image["file_name"] for image in splits["train"]["images"]] == ["images/train/0.jpg", "images/train/1.jpg"]
    assert [len(content["annotations"]) for content in splits.values()] == [4, 4]


def test_images_without_labels_are_images_without_objects(folder):
    (folder / "labels" / "train" / "0.txt").unlink()
    content = read_yolo(folder)["train"]
    assert len(content["images"]) == 2 and {a["image_id"] for a in content["annotations"]} == {2}


def test_boxes_have_no_segmentation(folder):
    first_label(folder, "1 0.5 0.5 0.25 0.5\n")
    annotation = read_yolo(folder)["train"]["annotations"][0]
    assert annotation["segmentation"] == [] and annotation["category_id"] == 2
    assert annotation["bbox"] == [0.375 * WIDTH, 0.25 * HEIGHT, 0.25 * WIDTH, 0.5 * HEIGHT]


def test_corners_outside_the_image_are_clipped(folder):
    first_label(folder, "0 -0.1 0 0.5 0 0.5 1.1 -0.1 1.1")
    assert read_yolo(folder)["train"]["annotations"][0]["bbox"] == [0, 0, WIDTH / 2, HEIGHT]


def test_sizes_are_those_of_the_upright_image(folder):
    file = folder / "images" / "train" / "0.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(file).save(file, exif=exif)
    assert upright_size(file) == (WIDTH, HEIGHT)
    # The rectangle is as wide in fractions as before, of another side.
    box = read_yolo(folder)["train"]["annotations"][0]["bbox"]
    assert box[2] == pytest.approx(FIRST[2] / WIDTH * HEIGHT, abs=1e-3)


def test_only_the_last_folder_of_images_has_labels_beside_it(tmp_path):
    assert label_file(tmp_path / "images" / "images" / "a.b.png") == tmp_path / "images" / "labels" / "a.b.txt"
    assert label_file(tmp_path / "a.png") == tmp_path / "a.txt"


@pytest.mark.parametrize(
    "label, part",
    [
        ("0 0.1 0.1 0.2 a 0.3 0.3", "0.txt:1 is '0 0.1 0.1 0.2 a 0.3 0.3', wanted numbers"),
        ("\n2 0.1 0.1 0.2 0.1 0.2 0.2", "0.txt:2 has class 2, wanted 0 to 1"),
        ("0.5 0.1 0.1 0.2 0.1 0.2 0.2", "has class 0.5"),
        ("0 0.1 0.1 0.2 0.1 0.2", "wanted class x y x y"),
        ("0 10 10 20 10 20 20", "with x and y from 0 to 1"),
        ("0 0.1 0.1 nan 0.1 0.2 0.2", "with x and y from 0 to 1"),
    ],
)
def test_broken_labels_are_named(folder, label, part):
    first_label(folder, label)
    with pytest.raises(DatasetError) as error:
        read_yolo(folder)
    assert part in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"names": None}, "has names None"),
        ({"names": {1: "cup", 2: "pen"}}, "dict with keys 0, 1"),
        ({"train": "images/absent"}, "names images/absent, but there is no"),
        ({"train": "labels/train"}, "has no images"),
        ({"train": None, "val": None}, "names no split"),
    ],
)
def test_broken_descriptions_are_named(folder, changes, part):
    describe(folder, **changes)
    with pytest.raises(DatasetError, match=part):
        read_yolo(folder)


def test_missing_labels_are_named(folder):
    (folder / "labels").rename(folder / "label")
    with pytest.raises(DatasetError, match=r"none of the 2 train images has labels, looked for .*labels/train/0\.txt"):
        read_yolo(folder)


def test_broken_images_are_named(folder):
    (folder / "images" / "train" / "0.jpg").write_text("no image")
    with pytest.raises(DatasetError, match=r"0\.jpg cannot be read"):
        read_yolo(folder)
