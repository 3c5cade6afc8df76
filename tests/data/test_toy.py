"""The toy dataset: valid COCO, the same bytes for the same arguments, never half there."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from insta_rtdetr.data import check_dataset, register_coco_folder, toy
from insta_rtdetr.data.toy import make_toy_dataset
from insta_rtdetr.data.toy_scenes import CATEGORIES, SceneObject, Sprite, _compose

SMALL = {"num_train": 24, "num_val": 2, "size": 128, "seed": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_toy_dataset(tmp_path_factory.mktemp("toy") / "toy", **SMALL)


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def disc_sprite(category, top, left, side=20):
    return Sprite(category, top, left, np.ones((side, side)), np.full((side, side, 3), 0.5))


def test_same_arguments_give_the_same_bytes_and_another_seed_does_not(folder, tmp_path):
    assert digest(make_toy_dataset(tmp_path / "again", **SMALL)) == digest(folder)
    other = digest(make_toy_dataset(tmp_path / "other", **SMALL | {"seed": 6}))
    assert all(other[name] != value for name, value in digest(folder).items())


def test_it_is_coco_with_every_kind_of_mask(folder, capsys):
    coco = COCO(str(folder / "annotations" / "instances_train2017.json"))
    kinds = set()
    for annotation in coco.dataset["annotations"]:
        image = coco.imgs[annotation["image_id"]]
        mask = coco.annToMask(annotation)
        assert mask.shape == (image["height"], image["width"])
        left, top, width, height = annotation["bbox"]
        ys, xs = np.nonzero(mask)
        assert abs(int(mask.sum()) - annotation["area"]) <= 0.08 * annotation["area"] + 2
        assert left - 1 <= xs.min() and xs.max() < left + width + 1
        assert top - 1 <= ys.min() and ys.max() < top + height + 1
        kinds.add((type(annotation["segmentation"]).__name__, annotation["iscrowd"]))
    assert {("list", 0), ("dict", 0)} <= kinds
    assert {category["name"] for category in coco.dataset["categories"]} == set(CATEGORIES)
    for image in coco.dataset["images"]:
        with Image.open(folder / "train2017" / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"])


def test_masks_of_different_objects_do_not_overlap(folder):
    coco = COCO(str(folder / "annotations" / "instances_val2017.json"))
    for image_id in coco.imgs:
        masks = [coco.annToMask(a) for a in coco.imgToAnns[image_id] if isinstance(a["segmentation"], dict)]
        assert not masks or np.sum(masks, axis=0).max() <= 1


def test_it_passes_the_checks_of_training(folder):
    register_coco_folder("toy_test", folder)
    assert len(check_dataset("toy_test_train", len(CATEGORIES))) == SMALL["num_train"]


def test_polygons_draw_the_mask_they_were_made_of():
    ys, xs = np.mgrid[0:60, 0:80]
    mask = (ys - 30) ** 2 + (xs - 40) ** 2 < 20**2
    fields = toy._annotate(SceneObject(0, mask, is_crowd=False), as_polygons=True)
    assert fields["bbox"] == [21, 11, 39, 39]
    coco = COCO()
    coco.imgs = {1: {"height": 60, "width": 80}}
    drawn = coco.annToMask(fields | {"image_id": 1}).astype(bool)
    # Pixels that the outline cuts in half may go either way.
    assert (drawn != mask).sum() <= 8


def test_masks_with_holes_get_rle():
    mask = np.ones((20, 20), dtype=bool)
    mask[8:12, 8:12] = False
    assert isinstance(toy._annotate(SceneObject(0, mask, False), as_polygons=True)["segmentation"], dict)


@pytest.mark.parametrize("first", [False, True])
def test_crowd_run_lengths_by_hand(first):
    mask = np.array([[first, True], [False, True]])
    wanted = [0, 1, 1, 2] if first else [2, 2]
    assert toy._uncompressed_rle(mask) == {"size": [2, 2], "counts": wanted}


def test_covered_pixels_belong_to_the_object_on_top():
    image = np.zeros((40, 40, 3), dtype=np.float32)
    below, above = disc_sprite(0, 0, 0), disc_sprite(1, 10, 0)
    objects = _compose(image, [below, above], shadow=0.0)
    assert [o.category for o in objects] == [0, 1]
    assert objects[0].mask[:10, :20].all() and objects[0].mask.sum() == 200 and objects[1].mask.sum() == 400


def test_objects_covered_almost_wholly_or_outside_are_not_annotated():
    image = np.zeros((40, 40, 3), dtype=np.float32)
    objects = _compose(image, [disc_sprite(0, 0, 0), disc_sprite(1, 1, 0), disc_sprite(2, 100, 100)], shadow=0.0)
    assert [o.category for o in objects] == [1]


def test_the_same_dataset_is_reused(folder):
    before = digest(folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make_toy_dataset(folder, **SMALL) == folder
    assert digest(folder) == before and {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_other_content_is_refused_and_left_alone(folder, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not a toy dataset"):
        make_toy_dataset(tmp_path, **SMALL)
    with pytest.raises(FileExistsError, match=r"made with .*'seed': 5"):
        make_toy_dataset(folder, **SMALL | {"seed": 6})
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_dataset_that_lost_files_is_refused(tmp_path):
    folder = make_toy_dataset(tmp_path / "toy", num_train=2, num_val=1, size=64)
    next((folder / "train2017").iterdir()).unlink()
    with pytest.raises(FileExistsError, match="1 of 2 train images"):
        make_toy_dataset(folder, num_train=2, num_val=1, size=64)


def test_a_failed_run_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(toy, "_annotate", fail)
    with pytest.raises(KeyboardInterrupt):
        make_toy_dataset(tmp_path / "toy", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path):
    make_toy_dataset(tmp_path, num_train=1, num_val=1, size=64)
    assert json.loads((tmp_path / "toy.json").read_text())["train"] == 1


def test_the_command_line_writes_it(tmp_path):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "insta_rtdetr.data.toy", str(tmp_path / "toy")]
    done = subprocess.run([*command, "--train", "1", "--val", "1", "--size", "64"], capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "toy" / "toy.json").is_file(), done.stderr


@pytest.mark.parametrize("arguments", [["--train", "0"], ["--size", "64"]])
def test_the_command_line_ends_with_one_line_on_errors(tmp_path, monkeypatch, capsys, arguments):
    (tmp_path / "letter.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["toy", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as ended:
        toy.main()
    message = capsys.readouterr().err
    assert ended.value.code == 1 and message.startswith("error: ") and message.count("\n") == 1
