"""Registration and checked loading: each broken dataset ends in one line that names what to change."""

import json
import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from insta_rtdetr.data import check_dataset, load_datasets, register_coco_folder
from insta_rtdetr.errors import DatasetError

NAME = "data_test_train"


def coco_content():
    square = [2, 2, 8, 2, 8, 8, 2, 8]
    thing = {"id": 1, "image_id": 5, "category_id": 7, "bbox": [2, 2, 6, 6], "area": 36, "iscrowd": 0}
    return {
        "images": [
            {"id": 5, "file_name": "a.png", "height": 10, "width": 12},
            {"id": 6, "file_name": "b.png", "height": 10, "width": 12},
        ],
        "annotations": [thing | {"segmentation": [square]}],
        "categories": [{"id": 9, "name": "late"}, {"id": 7, "name": "early"}],
    }


@pytest.fixture
def folder(tmp_path):
    """A COCO folder with two images; a test changes its file with write()."""
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        for name in ("a.png", "b.png"):
            Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(tmp_path / split / name)
        write(tmp_path, coco_content(), split)
    register_coco_folder("data_test", tmp_path)
    return tmp_path


def write(folder, content, split="train2017"):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "annotations" / f"instances_{split}.json").write_text(text)


def error_of(call, *args, **kwargs):
    with pytest.raises(DatasetError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_registered_folder_loads_as_detectron2_dicts(folder):
    first, second = check_dataset(NAME, num_classes=2)
    assert (first["image_id"], first["height"], first["width"]) == (5, 10, 12) and second["annotations"] == []
    assert first["file_name"] == str(folder / "train2017" / "a.png")
    (thing,) = first["annotations"]
    # category 7 has the lower id, so it is class 0
    assert thing["category_id"] == 0 and thing["bbox"] == [2, 2, 6, 6] and thing["bbox_mode"] == BoxMode.XYWH_ABS
    metadata = MetadataCatalog.get(NAME)
    assert metadata.thing_classes == ["early", "late"] and metadata.evaluator_type == "coco"
    assert metadata.json_file.endswith("instances_train2017.json")
    assert metadata.thing_dataset_id_to_contiguous_id == {7: 0, 9: 1}


def test_the_catalog_gives_the_same_dicts(folder):
    assert DatasetCatalog.get("data_test_val")[0]["annotations"] == check_dataset("data_test_val", 2)[0]["annotations"]


def test_registering_again_points_to_the_new_folder(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    assert register_coco_folder("data_test", other) == ("data_test_train", "data_test_val")
    assert str(other) in error_of(check_dataset, NAME, 2)


def test_toy_and_coco_names_are_registered_by_import():
    assert {"toy_train", "toy_val", "coco_2017_train", "coco_2017_val"} <= set(DatasetCatalog.list())


def test_missing_annotation_file_names_path_variable_and_key(folder):
    (folder / "annotations" / "instances_train2017.json").unlink()
    message = error_of(check_dataset, NAME, 2, key="DATASETS.TEST")
    for part in ("instances_train2017.json", "not found", "DETECTRON2_DATASETS", "DATASETS.TEST"):
        assert part in message


def test_missing_images_are_counted_and_the_first_named(folder):
    (folder / "train2017" / "b.png").unlink()
    message = error_of(check_dataset, NAME, 2)
    assert "1 of 2 images are missing" in message and "b.png" in message
    assert len(check_dataset(NAME, 2, max_missing=1)) == 2


def test_missing_image_folder_and_unknown_name_are_named(folder):
    (folder / "train2017").rename(folder / "elsewhere")
    assert f"image folder {folder / 'train2017'} not found" in error_of(check_dataset, NAME, 2)
    assert "'no_such', which is not registered" in error_of(check_dataset, "no_such", 2)


@pytest.mark.parametrize(
    "content, part",
    [
        ("{", "is not JSON"),
        ([1, 2], "holds a list"),
        ({"licenses": [], "images": []}, "holds licenses, images, wanted"),
        ({"images": [{"id": 1}], "annotations": [], "categories": []}, "image 1 (None) has no file_name"),
    ],
)
def test_a_file_that_is_not_coco_says_what_it_holds(folder, content, part):
    write(folder, content)
    assert part in error_of(check_dataset, NAME, 2)


@pytest.mark.parametrize("key, part", [("image_id", "of image 99"), ("category_id", "of category 99")])
def test_annotation_of_an_unknown_image_or_category_is_named(folder, key, part):
    content = coco_content()
    content["annotations"][0][key] = 99
    write(folder, content)
    message = error_of(check_dataset, NAME, 2)
    assert "annotation 1 is" in message and part in message


@pytest.mark.parametrize(
    "part, value, reason",
    [
        ("bbox", [1, 2, 3], "bbox [1, 2, 3], wanted [x, y, width, height]"),
        ("bbox", "wide", "bbox 'wide', wanted [x, y, width, height]"),
        ("segmentation", {"counts": "0", "size": [3, 3]}, "its size is [3, 3], the image's [10, 12]"),
        ("segmentation", {"counts": None, "size": [10, 12]}, "its counts are a NoneType"),
        ("segmentation", {"size": [10, 12]}, "'counts'"),
        ("segmentation", [["1"] * 6], "its polygons hold a str"),
    ],
)
def test_a_broken_annotation_is_named(folder, part, value, reason):
    content = coco_content()
    content["annotations"][0][part] = value
    write(folder, content)
    message = error_of(check_dataset, NAME, 2)
    assert "annotation 1 has" in message and reason in message


def test_class_outside_the_model_names_annotation_category_and_key(folder):
    content = coco_content()
    content["annotations"][0]["category_id"] = 9
    write(folder, content)
    message = error_of(check_dataset, NAME, 1)
    for part in ("annotation 1 ", "class 1 (late)", "classes 0 to 0", "Set MODEL.NUM_CLASSES to 2"):
        assert part in message
    assert check_dataset(NAME, 2)[0]["annotations"][0]["category_id"] == 1


def test_class_of_a_dataset_that_is_not_coco_is_checked_too(folder):
    DatasetCatalog.register("data_test_own", lambda: [{"file_name": "x.png", "annotations": [{"category_id": 3}]}])
    try:
        assert "Set MODEL.NUM_CLASSES to 4" in error_of(check_dataset, "data_test_own", 3)
    finally:
        DatasetCatalog.remove("data_test_own")
        MetadataCatalog.remove("data_test_own")


def test_unusable_objects_are_dropped_and_counted_in_one_line(folder, caplog):
    content = coco_content()
    good = content["annotations"][0]
    boxes = [[2, 2, 0, 6], [12, 2, 3, 3], [-5, 2, 5, 3], [2, 2, float("nan"), 6]]
    changes = [{"bbox": box} for box in boxes] + [{"segmentation": [[1, 2, 3, 4]]}]
    content["annotations"] += [good | change | {"id": index} for index, change in enumerate(changes, start=2)]
    write(folder, content)
    with caplog.at_level(logging.WARNING):
        dicts = check_dataset(NAME, 2)
    assert [a["id"] for a in dicts[0]["annotations"]] == [1]
    (record,) = [r for r in caplog.records if "dropped" in r.message]
    assert "dropped 5 objects: 1 whose polygons have fewer than three points" in record.message
    first = "1 with a box of no area (first annotation 2), 2 with a box outside the image (first annotation 3), "
    assert record.message.endswith(f"{first}1 with a box that is not finite (first annotation 5)")


def test_uncompressed_rle_is_compressed_and_crowds_are_kept(folder):
    content = coco_content()
    rle = {"size": [10, 12], "counts": [0, 60, 60]}
    content["annotations"][0] |= {"segmentation": rle, "iscrowd": 1, "bbox": [0, 0, 6, 10]}
    write(folder, content)
    (crowd,) = check_dataset(NAME, 2)[0]["annotations"]
    assert crowd["iscrowd"] == 1 and isinstance(crowd["segmentation"]["counts"], bytes)


def test_images_without_objects_are_kept_or_dropped(folder):
    assert len(load_datasets([NAME, "data_test_val"], 2, filter_empty=False)) == 4
    assert [item["image_id"] for item in load_datasets([NAME], 2, filter_empty=True)] == [5]


def test_a_dataset_of_only_crowds_leaves_nothing_to_train_on(folder):
    content = coco_content()
    content["annotations"][0]["iscrowd"] = 1
    write(folder, content)
    for filter_empty in (True, False):
        assert "nothing to learn" in error_of(load_datasets, [NAME], 2, filter_empty=filter_empty)
