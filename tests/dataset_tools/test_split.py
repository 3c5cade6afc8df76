"""Splitting: the shares are met, nothing is lost or doubled, the same seed gives the same."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from insta_rtdetr.dataset_tools.check import check_folder
from insta_rtdetr.dataset_tools.command_line import main
from insta_rtdetr.dataset_tools.split import assign


def make_dataset(folder, num_images=40):
    """train and val; class 1 in every image, class 2 in each tenth, class 3 in each fifth but one."""
    (folder / "annotations").mkdir(parents=True)
    for split, first in (("train", 0), ("val", num_images // 2)):
        (folder / split).mkdir()
        content = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"c{i}"} for i in (1, 2, 3)]}
        for image_id in range(first, first + num_images // 2):
            Image.fromarray(np.full((8, 8, 3), image_id, np.uint8)).save(folder / split / f"{image_id}.png")
            content["images"].append({"id": image_id, "file_name": f"{image_id}.png", "height": 8, "width": 8})
            classes = [1] + [2] * (image_id % 10 == 0) + [3] * (image_id % 5 == 1)
            content["annotations"] += [
                {"id": 10 * image_id + c, "image_id": image_id, "category_id": c, "iscrowd": 0, "area": 16,
                 "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
                for c in classes
            ]  # fmt: skip
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def split(folder, target, *options):
    return main(["split", str(folder), str(target), "--train", "80", "--val", "10", "--test", "10", *options])


def read(folder):
    """split -> (file name -> classes of its objects)."""
    result = {}
    for name in ("train", "val", "test"):
        content = json.loads((folder / "annotations" / f"instances_{name}.json").read_text())
        classes = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            classes[annotation["image_id"]].append(annotation["category_id"])
        result[name] = {image["file_name"]: classes[image["id"]] for image in content["images"]}
    return result


@pytest.mark.parametrize("options", [(), ("--stratify",)])
def test_shares_are_met_and_every_image_and_object_is_somewhere_once(tmp_path, options):
    source = make_dataset(tmp_path / "source")
    assert split(source, tmp_path / "out", *options) == 0
    found = read(tmp_path / "out")
    assert {name: len(images) for name, images in found.items()} == {"train": 32, "val": 4, "test": 4}
    assert sorted(name for images in found.values() for name in images) == sorted(f"{i}.png" for i in range(40))
    counts = Counter(c for images in found.values() for classes in images.values() for c in classes)
    assert counts == {1: 40, 2: 4, 3: 8}
    assert check_folder(tmp_path / "out", num_workers=1, show_progress=False).passes
    assert len(list(source.rglob("*.png"))) == 40


def test_the_seed_decides(tmp_path):
    source = make_dataset(tmp_path / "source")
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        split(source, tmp_path / name, "--seed", seed)
    assert read(tmp_path / "a") == read(tmp_path / "b") != read(tmp_path / "c")


def test_stratified_parts_hold_each_class_in_their_share():
    rng = np.random.default_rng(0)
    labels = [frozenset(np.flatnonzero(rng.random(4) < (0.9, 0.3, 0.1, 0.05)).tolist()) for _ in range(400)]
    part_of = np.array(assign(labels, [1] * 400, [0.8, 0.1, 0.1], np.random.default_rng(1)))
    # Dealing out one label can leave a part an image over its share.
    assert np.abs(np.bincount(part_of) - (320, 40, 40)).max() <= 2
    for label in range(4):
        has_label = np.array([label in item for item in labels])
        in_parts = np.bincount(part_of[has_label], minlength=3)
        assert np.abs(in_parts - np.array([0.8, 0.1, 0.1]) * has_label.sum()).max() <= 2


def test_images_of_the_same_bytes_stay_together(tmp_path):
    source = make_dataset(tmp_path / "source")
    for image_id in range(1, 20):
        (source / "train" / f"{image_id}.png").write_bytes((source / "train" / "0.png").read_bytes())
    split(source, tmp_path / "out")
    found = read(tmp_path / "out")
    assert sum(any(f"{i}.png" in images for i in range(20)) for images in found.values()) == 1


@pytest.mark.parametrize(
    ("shares", "said"),
    [(("80", "10", "5"), "80 + 10 + 5 percent"), (("98", "1", "1"), "too few"), (("110", "-10", "0"), "110 + -10")],
)
def test_shares_that_cannot_be_met_are_one_line(tmp_path, capsys, shares, said):
    source = make_dataset(tmp_path / "source", num_images=10)
    train, val, test = shares
    arguments = ["split", str(source), str(tmp_path / "out"), f"--train={train}", f"--val={val}", f"--test={test}"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
