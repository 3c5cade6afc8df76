import json
import math

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances

from insta_rtdetr.config import add_insta_rtdetr_config
from insta_rtdetr.errors import UserError
from insta_rtdetr.evaluation import build_evaluator

NAME = "tiny_evaluation"
HEIGHT, WIDTH, SIDE = 80, 160, 6


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    yield cfg
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def squares(count: int) -> list[tuple[int, int]]:
    """(left, top) of squares that do not touch."""
    return [(8 * (i % 20) + 1, 8 * (i // 20) + 1) for i in range(count)]


def register(folder, squares_of_images: list[list[tuple[int, int]]]) -> None:
    images, annotations = [], []
    for image_id, corners in enumerate(squares_of_images, start=1):
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH})
        for left, top in corners:
            outline = [left, top, left + SIDE, top, left + SIDE, top + SIDE, left, top + SIDE]
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": 7, "iscrowd": 0, "area": SIDE**2,
                "bbox": [left, top, SIDE, SIDE], "segmentation": [outline],
            })  # fmt: skip
    file = folder / "annotations.json"
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "square"}]}
    file.write_text(json.dumps(content))
    register_coco_instances(NAME, {}, str(file), str(folder))
    DatasetCatalog.get(NAME)


def found(corners: list[tuple[int, int]]) -> Instances:
    """Predictions of exactly these squares, the first the surest."""
    instances = Instances((HEIGHT, WIDTH))
    boxes = torch.tensor([[x, y, x + SIDE, y + SIDE] for x, y in corners], dtype=torch.float32)
    instances.pred_boxes = Boxes(boxes.reshape(-1, 4))
    instances.scores = torch.linspace(0.9, 0.1, len(corners))
    instances.pred_classes = torch.zeros(len(corners), dtype=torch.long)
    instances.pred_masks = torch.zeros(len(corners), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x, y) in zip(instances.pred_masks, corners):
        mask[y : y + SIDE, x : x + SIDE] = True
    return instances


def evaluate(cfg, predictions: list[Instances]) -> dict:
    evaluator = build_evaluator(cfg, NAME)
    evaluator.reset()
    for image_id, instances in enumerate(predictions, start=1):
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


@pytest.mark.parametrize("limit, recall", [(100, 100 / 150), (150, 1.0), (300, 1.0)])
def test_ap_counts_as_many_detections_as_the_config_says(cfg, tmp_path, limit, recall):
    register(tmp_path, [squares(150)])
    cfg.TEST.DETECTIONS_PER_IMAGE = limit
    results = evaluate(cfg, [found(squares(150))])
    # Precision is 1 up to the recall reached and 0 beyond, sampled at 101 recalls.
    expected = 100 * (math.floor(100 * recall) + 1) / 101
    for task in ("bbox", "segm"):
        for metric in ("AP", "AP50", "AP75", "APs"):
            assert results[task][metric] == pytest.approx(expected), (task, metric)
        assert math.isnan(results[task]["APl"])


def test_images_without_annotations_count_false_detections_only(cfg, tmp_path):
    register(tmp_path, [squares(4), []])
    assert evaluate(cfg, [found(squares(4)), found([])])["segm"]["AP"] == pytest.approx(100)
    # A false detection as sure as the surest: precision is 1/2 at first and 4/5 at last, which counts throughout.
    with_false = evaluate(cfg, [found(squares(4)), found(squares(1))])
    assert with_false["segm"]["AP"] == pytest.approx(with_false["bbox"]["AP"])
    assert 80 - 1e-3 <= with_false["segm"]["AP"] < 100


def test_no_detections_at_all_is_no_crash(cfg, tmp_path):
    register(tmp_path, [squares(4)])
    results = evaluate(cfg, [found([])])
    assert math.isnan(results["bbox"]["AP"]) and math.isnan(results["segm"]["AP"])


def test_masks_count_for_mask_ap_and_boxes_for_box_ap(cfg, tmp_path):
    register(tmp_path, [squares(2)])
    instances = found(squares(2))
    instances.pred_masks[:, :, :] = False
    results = evaluate(cfg, [instances])
    assert results["bbox"]["AP"] == pytest.approx(100) and results["segm"]["AP"] == 0


def test_other_evaluators_are_an_error_that_names_them(cfg):
    MetadataCatalog.get(NAME).evaluator_type = "lvis"
    with pytest.raises(UserError, match=r"tiny_evaluation has evaluator_type 'lvis', wanted 'coco' or"):
        build_evaluator(cfg, NAME)
