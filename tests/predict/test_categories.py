"""Class names and COCO ids of a model."""

from detectron2.data import MetadataCatalog

from insta_rtdetr.predict.categories import Categories, categories_of
from tests.tiny import tiny_config


def categories(num_classes: int, dataset: str, class_names: tuple[str, ...] = ()) -> Categories:
    cfg = tiny_config("MODEL.NUM_CLASSES", num_classes, "DATASETS.TEST", (dataset,), "DATASETS.TRAIN", ())
    return categories_of(cfg, class_names)


def test_names_are_the_datasets_then_cocos_then_numbers():
    assert categories(80, "coco_2017_val").names[:2] == ("person", "bicycle")
    assert categories(80, "not_registered").names[-1] == "toothbrush"
    assert categories(4, "toy_val") == Categories(("coin", "cell", "triangle", "square"), (1, 2, 3, 4))
    assert categories(4, "coco_2017_val") == Categories(("0", "1", "2", "3"), (1, 2, 3, 4))
    assert "not_registered" not in MetadataCatalog.list()
    MetadataCatalog.get("demo_two_classes").thing_classes = ["cat", "dog"]
    assert categories(2, "demo_two_classes").names == ("cat", "dog")
    MetadataCatalog.remove("demo_two_classes")


def test_cocos_ids_have_gaps():
    coco = categories(80, "coco_2017_val")
    assert len(coco.ids) == 80 and coco.ids[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13) and coco.ids[-1] == 90
    assert dict(zip(coco.names, coco.ids))["stop sign"] == 13


def test_a_checkpoints_names_are_believed():
    assert categories(2, "coco_2017_val", ("cat", "dog")) == Categories(("cat", "dog"), (1, 2))
    coco = categories(80, "coco_2017_val")
    assert categories(80, "not_registered", coco.names) == coco
