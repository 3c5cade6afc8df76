"""What the loaders of Cityscapes and ADE20K give, and what they say of a dataset that is not there."""

import json
import sys

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_util

from insta_rtdetr.data import ade20k, benchmarks
from insta_rtdetr.errors import DatasetError
from tests.data import trees


def test_cityscapes_gives_things_with_exact_masks_and_boxes(tmp_path):
    folder = trees.write_cityscapes(tmp_path)
    dicts = benchmarks.load_cityscapes("any", folder / "leftImg8bit" / "val", folder / "gtFine" / "val")
    first = min(dicts, key=lambda item: item["file_name"])
    names = [benchmarks.CITYSCAPES_CLASSES[a["category_id"]] for a in first["annotations"]]
    assert names == ["car", "person", "car"] and [a["iscrowd"] for a in first["annotations"]] == [1, 0, 0]
    for annotation, (left, top, width, height) in zip(first["annotations"][:0:-1], trees.objects(0)):
        assert annotation["bbox"] == [left, top, left + width, top + height]
        assert mask_util.area(annotation["segmentation"]) == width * height


def test_the_class_lists_have_the_published_lengths():
    assert len(benchmarks.CITYSCAPES_CLASSES) == 8 and benchmarks.CITYSCAPES_CLASSES[0] == "person"
    assert len(ade20k.CLASS_NAMES) == len(set(ade20k.CLASS_NAMES.values())) == 100
    assert ade20k.CLASS_NAMES[7] == "bed" and ade20k.CLASS_NAMES[149] == "flag"
    assert list(ade20k.CLASS_NAMES) == sorted(ade20k.CLASS_NAMES)
    assert MetadataCatalog.get("ade20k_instance_val").thing_dataset_id_to_contiguous_id[149] == 99


def test_ade20k_becomes_a_coco_file(tmp_path):
    files = ade20k.prepare(trees.write_ade20k(tmp_path))
    assert [file.name for file in files] == ["ade20k_instance_train.json", "ade20k_instance_val.json"]
    content = json.loads(files[1].read_text())
    assert len(content["images"]) == 2 and len(content["categories"]) == 100
    bed, flag = content["annotations"][:2]
    assert (bed["category_id"], flag["category_id"]) == (7, 149) and [bed["id"], flag["id"]] == [1, 2]
    assert [bed["bbox"], flag["bbox"]] == [list(rectangle) for rectangle in trees.objects(0)]
    assert flag["area"] == trees.SECOND[2] * trees.SECOND[3]


def test_the_same_number_in_two_classes_is_two_objects(tmp_path):
    folder = trees.write_ade20k(tmp_path)
    file = next((folder / "annotations_instance" / "training").iterdir())
    pixels = np.array(Image.open(file))
    pixels[..., 1] = pixels[..., 1] > 0
    Image.fromarray(pixels).save(file)
    assert len(json.loads(ade20k.prepare(folder)[0].read_text())["annotations"]) == 4


@pytest.mark.parametrize(
    "part, message",
    [("annotations_instance", "annotations_instance.tar"), ("images", r"has no \.jpg files")],
)
def test_what_ade20k_lacks_is_named(tmp_path, part, message):
    folder = trees.write_ade20k(tmp_path)
    (folder / part).rename(folder / "elsewhere")
    with pytest.raises(DatasetError, match=message):
        ade20k.prepare(folder)
    assert not list(folder.glob("*.json"))


def test_what_cityscapes_lacks_is_named(tmp_path, monkeypatch):
    folder = trees.write_cityscapes(tmp_path)
    images, truth = folder / "leftImg8bit" / "val", folder / "gtFine" / "val"
    with pytest.raises(DatasetError, match=r"folder .*absent not found.*DETECTRON2_DATASETS"):
        benchmarks.load_cityscapes("any", folder / "absent", truth)
    for file in truth.rglob("*instanceIds.png"):
        file.unlink()
    with pytest.raises(DatasetError, match=r"instanceIds\.png is missing"):
        benchmarks.load_cityscapes("any", images, truth)
    monkeypatch.setitem(sys.modules, "cityscapesscripts.helpers.labels", None)
    with pytest.raises(DatasetError, match="pip install cityscapesscripts"):
        benchmarks.load_cityscapes("any", images, truth)
