"""faster-coco-eval gives the metrics of pycocotools, bit by bit."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from insta_rtdetr.evaluation import build_evaluator
from insta_rtdetr.evaluation.coco import FasterCOCOEvaluator
from insta_rtdetr.evaluation.mistakes import compare
from insta_rtdetr.evaluation.quiet import QuietCOCOEvaluator
from insta_rtdetr.layers.mask_rle import encode_masks
from insta_rtdetr.layers.rle_masks import RleMasks
from tests.tiny import tiny_config

pytest.importorskip("faster_coco_eval")

NAME = "tiny_coco_evaluation"
SIDE = 48
CATEGORIES = (2, 3, 7)


@pytest.fixture
def dataset(tmp_path):
    """A function that registers a COCO file."""

    def register(content: dict) -> None:
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        register_coco_instances(NAME, {}, str(tmp_path / "annotations.json"), str(tmp_path))
        DatasetCatalog.get(NAME)

    yield register
    DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME)


def random_box(rng: np.random.Generator) -> np.ndarray:
    """xyxy, from a few pixels to most of the image, so that all ranges of areas occur when sides are large."""
    corner = rng.integers(0, SIDE - 4, 2)
    return np.concatenate([corner, np.minimum(corner + rng.integers(2, SIDE, 2), SIDE)])


def random_dataset(rng: np.random.Generator, num_images: int, most: int, first_id: int = 1, name=int) -> dict:
    """Images with 0 to `most` objects, a tenth of them crowds; the last category has none."""
    annotations, images = [], []
    for image in range(num_images):
        images.append({"id": name(image), "file_name": f"{image}.png", "height": SIDE, "width": SIDE})
        for _ in range(rng.integers(0, most + 1)):
            x0, y0, x1, y1 = (int(side) for side in random_box(rng))
            outline = {"segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]], "iscrowd": 0}
            if rng.random() < 0.1:
                mask = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
                mask[y0:y1, x0:x1] = 1
                rle = mask_util.encode(mask)
                outline = {"segmentation": rle | {"counts": rle["counts"].decode()}, "iscrowd": 1}
            annotations.append(outline | {
                "id": first_id + len(annotations), "image_id": name(image), "bbox": [x0, y0, x1 - x0, y1 - y0],
                "category_id": int(rng.choice(CATEGORIES[:-1])), "area": (x1 - x0) * (y1 - y0) * rng.uniform(0.5, 30),
            })  # fmt: skip
    categories = [{"id": category, "name": f"class {category}"} for category in CATEGORIES]
    return {"images": images, "annotations": annotations, "categories": categories}


def random_predictions(rng: np.random.Generator, content: dict, most: int) -> dict:
    """Image id -> up to `most` instances, half of them near objects of the image; many share a score."""
    predictions = {}
    for image in content["images"]:
        near = [one["bbox"] for one in content["annotations"] if one["image_id"] == image["id"]]
        boxes = []
        for index in range(rng.integers(0, most + 1)):
            box = random_box(rng)
            if near and index % 2:
                x, y, width, height = near[rng.integers(len(near))]
                box = np.clip(np.array([x, y, x + width, y + height]) + rng.integers(-1, 2, 4), 0, SIDE)
            boxes.append(box)
        predictions[image["id"]] = instances_of(np.array(boxes).reshape(-1, 4), rng)
    return predictions


def instances_of(boxes: np.ndarray, rng: np.random.Generator) -> Instances:
    instances = Instances((SIDE, SIDE))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    instances.scores = torch.tensor(rng.random(len(boxes)).round(1), dtype=torch.float32)
    instances.pred_classes = torch.tensor(rng.integers(0, len(CATEGORIES), len(boxes)))
    rows, columns = np.arange(SIDE)[:, None], np.arange(SIDE)
    masks = [(rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1) for x0, y0, x1, y1 in boxes]
    instances.pred_masks = torch.tensor(np.array(masks).reshape(-1, SIDE, SIDE))
    return instances


def evaluate(kind: type, predictions: dict, limit: int) -> dict:
    evaluator = kind(
        NAME, tasks=("bbox", "segm"), distributed=False, max_dets_per_image=limit, use_fast_impl=False
    )  # fmt: skip
    evaluator.reset()
    for image_id, instances in predictions.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


def assert_same_metrics(predictions: dict, limit: int) -> None:
    expected, found = evaluate(COCOEvaluator, predictions, limit), evaluate(FasterCOCOEvaluator, predictions, limit)
    assert expected["segm"]["AP"] > 0
    for task in ("bbox", "segm"):
        assert list(found[task]) == list(expected[task])
        np.testing.assert_array_equal(list(found[task].values()), list(expected[task].values()))


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_pycocotools(dataset, seed):
    rng = np.random.default_rng(seed)
    content = random_dataset(rng, num_images=12, most=6)
    dataset(content)
    assert_same_metrics(random_predictions(rng, content, most=12), limit=100)


@pytest.mark.parametrize("limit", [5, 100, 400])
def test_metrics_of_hundreds_of_detections_are_those_of_pycocotools(dataset, limit):
    rng = np.random.default_rng(0)
    content = random_dataset(rng, num_images=3, most=150)
    dataset(content)
    assert_same_metrics(random_predictions(rng, content, most=450), limit)


def test_the_first_detection_alone_is_rounded_as_pycocotools_does(dataset):
    """Precision 1 of 1, and of 2 of 2, before wrong detections only, of 1, 3 and 200 objects."""
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": str(i)} for i in CATEGORIES]}
    predictions = {}
    # The second category's objects are not in the second image, so that its first detection alone is right.
    images_of = zip(CATEGORIES, ([0], [0, 2, 3], range(200)), strict=True)
    objects = [(category, image) for category, images in images_of for image in images]
    for image_id in range(200):
        content["images"].append({"id": image_id, "file_name": f"{image_id}.png", "height": SIDE, "width": SIDE})
        boxes = np.array([[0, 0, 20, 20]] * 3) + 25 * (image_id > 1)
        instances = instances_of(boxes, np.random.default_rng(0))
        instances.pred_classes = torch.arange(3)
        instances.scores = torch.full((3,), 0.9 - image_id / 1000)
        predictions[image_id] = instances
    for index, (category, image_id) in enumerate(objects, start=1):
        content["annotations"].append({
            "id": index, "image_id": image_id, "category_id": category, "iscrowd": 0, "area": 400,
            "bbox": [0, 0, 20, 20], "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]],
        })  # fmt: skip
    dataset(content)
    assert_same_metrics(predictions, limit=100)


@pytest.mark.parametrize("first_id", [0, 1])
@pytest.mark.parametrize("name", [int, "image {}".format])
def test_ids_may_start_at_zero_and_be_names(dataset, first_id, name):
    rng = np.random.default_rng(1)
    content = random_dataset(rng, num_images=5, most=6, first_id=first_id, name=name)
    dataset(content)
    assert_same_metrics(random_predictions(rng, content, most=12), limit=100)


def test_it_is_used_where_it_is_installed(dataset, monkeypatch):
    dataset(random_dataset(np.random.default_rng(0), num_images=1, most=3))
    assert type(build_evaluator(tiny_config(), NAME)) is FasterCOCOEvaluator
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert type(build_evaluator(tiny_config(), NAME)) is QuietCOCOEvaluator


@pytest.mark.parametrize("kind", [QuietCOCOEvaluator, FasterCOCOEvaluator])
def test_masks_in_run_length_code_give_the_same_metrics(dataset, kind):
    rng = np.random.default_rng(3)
    content = random_dataset(rng, num_images=4, most=5)
    dataset(content)
    predictions = random_predictions(rng, content, most=6)
    expected = evaluate(kind, predictions, 10)
    for instances in predictions.values():
        instances.pred_masks = RleMasks(encode_masks(instances.pred_masks), instances.image_size)
    found = evaluate(kind, predictions, 10)
    assert expected["segm"]["AP"] > 0
    for task in ("bbox", "segm"):
        np.testing.assert_array_equal(list(found[task].values()), list(expected[task].values()))


@pytest.mark.parametrize("kind", [QuietCOCOEvaluator, FasterCOCOEvaluator])
def test_boxes_alone_stay_without_masks(dataset, kind):
    """pycocotools gives them outlines, which the drawings of mistakes would take for masks."""
    rng = np.random.default_rng(0)
    content = random_dataset(rng, 4, 5)
    dataset(content)
    evaluator = kind(NAME, tasks=("bbox",), distributed=False)
    evaluator.reset()
    for image_id, instances in random_predictions(rng, content, 6).items():
        instances.remove("pred_masks")
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    evaluator.evaluate()
    assert evaluator.found and all("segmentation" not in found for found in evaluator.found)
    images, _ = compare(evaluator.truth, evaluator.found)
    assert len(images) == 4
