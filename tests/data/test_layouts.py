"""--dataset: every layout is recognised, trains, and scores what it must."""

import json

import pytest
import torch
from detectron2.data import MetadataCatalog

from insta_rtdetr.data import find_dataset, load_datasets, register_found
from insta_rtdetr.data.layouts import counted
from insta_rtdetr.engine import RunOptions, Trainer, check, setup_cfg
from insta_rtdetr.errors import DatasetError
from tests.data import oracle, trees  # noqa: F401  (registers the oracles)

LAYOUTS = {
    "COCO": (trees.write_coco, 80, ("train", "val")),
    "Roboflow": (trees.write_roboflow, 2, ("train", "val", "test")),
    "file": (trees.write_one_file, 2, ("all",)),
    "YOLO": (trees.write_yolo, 2, ("train", "val")),
}
SCORES = {"Oracle": 100.0, "HalfBlindOracle": 50.0, "ConfusedOracle": 0.0}


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path):
    """Name, path, number of classes, splits."""
    write, num_classes, splits = LAYOUTS[request.param]
    return request.param, write(tmp_path / "my data"), num_classes, splits


def config(path, *overrides):
    return setup_cfg("", ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", *map(str, overrides)], str(path))


def test_a_layout_is_recognised_in_one_line(layout, capsys):
    name, path, num_classes, splits = layout
    cfg = config(path)
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and f"({name} layout), {num_classes} classes (" in line
    assert all(f"_{split} 2 images, 4 objects" in line for split in splits)
    assert num_classes == cfg.MODEL.NUM_CLASSES == cfg.MODEL.ROI_HEADS.NUM_CLASSES
    prefix = "labels" if name == "file" else "my_data"
    test = "all" if name == "file" else "val"
    assert ((f"{prefix}_{splits[0]}",), (f"{prefix}_{test}",)) == (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)


def test_the_splits_load_with_the_classes_of_the_file(layout):
    _, path, num_classes, splits = layout
    names = register_found(find_dataset(path))
    assert tuple(names) == splits
    for name in names.values():
        dicts = load_datasets([name], num_classes)
        found = [MetadataCatalog.get(name).thing_classes[a["category_id"]] for a in dicts[0]["annotations"]]
        assert found == (["person", "cat"] if num_classes == 80 else ["cup", "pen"])


@pytest.mark.parametrize("model, expected", SCORES.items())
def test_known_predictions_score_what_they_must(layout, tmp_path, model, expected):
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "oracle.pth")
    cfg = config(
        layout[1], "MODEL.META_ARCHITECTURE", model, "MODEL.WEIGHTS", tmp_path / "oracle.pth", "OUTPUT_DIR",
        tmp_path / "out",
    )  # fmt: skip
    check(cfg, RunOptions(eval_only=True, num_gpus=0))
    metrics = Trainer.evaluate_weights(cfg)
    assert metrics["segm"]["AP"] == pytest.approx(expected, abs=1e-6)
    assert metrics["bbox"]["AP"] == pytest.approx(expected, abs=1e-6)


def test_overrides_come_after_the_dataset(tmp_path):
    path = trees.write_roboflow(tmp_path / "cups")
    assert config(path, "DATASETS.TEST", "('cups_test',)").DATASETS.TEST == ("cups_test",)


def test_splits_with_other_ids_for_the_same_classes_agree_by_name(tmp_path):
    folder = trees.write_coco(tmp_path / "mixed")
    file = folder / "annotations" / "instances_val2017.json"
    # Cat is the only category here, with an id that is another class's in the training file.
    content = trees.coco_content((1, 1), [{"id": 1, "name": "cat"}])
    trees.write_json(file, content)
    names = register_found(find_dataset(folder))
    (first, _) = load_datasets([names["val"]], 80)
    assert {MetadataCatalog.get(names["val"]).thing_classes[a["category_id"]] for a in first["annotations"]} == {"cat"}
    assert len(MetadataCatalog.get(names["val"]).thing_classes) == 80
    assert json.loads(file.read_text()) == content


def test_objects_without_masks_are_left_out_and_counted(tmp_path, caplog):
    folder = trees.write_yolo(tmp_path / "boxes")
    (folder / "labels" / "val" / "0.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    names = register_found(find_dataset(folder))
    assert [len(item["annotations"]) for item in load_datasets([names["val"]], 2)] == [0, 2]
    assert "dropped 1 objects without a mask" in caplog.text


def test_a_folder_of_a_single_file_is_that_file(tmp_path):
    file = trees.write_one_file(tmp_path / "one")
    assert find_dataset(file.parent).splits["all"].json_file == file
    assert find_dataset(file).splits["all"].image_root == file.parent / "images"


@pytest.mark.parametrize("name", ["data.yaml", "train/_annotations.coco.json"])
def test_a_file_of_a_layout_can_be_named_itself(tmp_path, name):
    folder = (trees.write_yolo if name == "data.yaml" else trees.write_roboflow)(tmp_path / "set")
    found = find_dataset(folder / name)
    assert "train" in found.splits if name == "data.yaml" else found.classes == ["cup", "pen"]


@pytest.mark.parametrize(
    "damage, part",
    [
        (lambda folder: (folder / "annotations").rename(folder / "labels"), "has no known layout"),
        (lambda folder: (folder / "annotations" / "instances_val2014.json").write_text("{}"), "which one is val"),
        (lambda folder: (folder / "annotations" / "instances_val2017.json").write_text("{}"), "wanted COCO's lists"),
    ],
)
def test_what_is_no_dataset_is_named(tmp_path, damage, part):
    folder = trees.write_coco(tmp_path / "mine")
    damage(folder)
    with pytest.raises(DatasetError, match=part):
        find_dataset(folder)
    with pytest.raises(DatasetError, match=r"--dataset .*absent not found"):
        find_dataset(tmp_path / "absent")


def test_an_annotation_of_no_category_is_named(tmp_path):
    folder = trees.write_roboflow(tmp_path / "mine")
    file = folder / "valid" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["category_id"] = 5
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="annotation 1 is of category 5, which the file does not list"):
        register_found(find_dataset(folder))


@pytest.mark.parametrize("number, text", [(1, "1 class"), (0, "0 classes"), (1200, "1,200 classes")])
def test_nouns_follow_their_numbers(number, text):
    assert counted(number, "class", "classes") == text
