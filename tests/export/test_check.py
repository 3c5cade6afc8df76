"""The AP that decides about an exported file."""

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from insta_rtdetr.engine.setup import setup_cfg
from insta_rtdetr.errors import UserError
from insta_rtdetr.export import check as check_module
from insta_rtdetr.export.check import AccuracyCheck, average_precisions
from insta_rtdetr.export.images import training_images

SIDE = 40


def boxes_of(index: int) -> list[list[int]]:
    """Two squares, xyxy, other ones in each image."""
    return [[2 + index, 3, 14 + index, 15], [20, 22 - index, 36, 38 - index]]


def write_split(folder: Path, split: str, count: int) -> None:
    """Images whose first pixel is their number."""
    images, annotations = [], []
    (folder / f"{split}2017").mkdir(parents=True)
    for index in range(count):
        pixels = np.full((SIDE, SIDE, 3), index, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{split}2017" / f"{index}.png")
        images.append({"id": index + 1, "file_name": f"{index}.png", "height": SIDE, "width": SIDE})
        for x0, y0, x1, y1 in boxes_of(index):
            annotations.append({
                "id": len(annotations) + 1, "image_id": index + 1, "category_id": 1, "iscrowd": 0,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
                "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
            })  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


@pytest.fixture
def cfg(tmp_path):
    """The config of a model for a dataset of five training and three validation images."""
    write_split(tmp_path, "train", 5)
    write_split(tmp_path, "val", 3)
    return setup_cfg("quickstart_MNV2_D3_256", [], str(tmp_path))


class Oracle:
    """Stands for a model: finds some of the objects of each image, perfectly."""

    def __init__(self, cfg, num_found: int) -> None:
        self.cfg, self.num_found = cfg, num_found

    def find(self, images: list[np.ndarray], threshold: float) -> list[Instances]:
        return [self._instances(int(image[0, 0, 0])) for image in images]

    def _instances(self, index: int) -> Instances:
        boxes = boxes_of(index)[: self.num_found]
        instances = Instances((SIDE, SIDE))
        instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        masks = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes):
            rle = coco_mask.frPyObjects([[x0, y0, x1, y0, x1, y1, x0, y1]], SIDE, SIDE)[0]
            mask[:] = torch.from_numpy(coco_mask.decode(rle)).bool()
        instances.pred_masks = masks
        instances.scores = torch.ones(len(boxes))
        instances.pred_classes = torch.zeros(len(boxes), dtype=torch.long)
        return instances


class StubFile(Oracle):
    """Stands for an exported file."""

    class metadata:
        model, precision = "tiny", "int8"

    class session:
        runtime, precision = "openvino", "int8"


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("num_found", "expected"), [(2, 100.0), (1, 50.5), (0, np.nan)])
def test_average_precision_of_what_an_oracle_finds(cfg, num_found, expected, capsys):
    """Half of the objects, all right: 51 of the 101 recalls have a precision of 1."""
    name = cfg.DATASETS.TEST[0]
    records = check_module.load_test_dataset(cfg, name)
    found = average_precisions(Oracle(cfg, num_found), cfg, name, records)
    assert found == {task: pytest.approx(expected, abs=0.1, nan_ok=True) for task in ("segm", "bbox")}
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("max_drop", "passes"), [(49.0, False), (50.0, True)])
def test_the_drop_of_the_mask_ap_decides(cfg, max_drop, passes, monkeypatch, capsys):
    monkeypatch.setattr(check_module, "ExportedModel", lambda file: StubFile(cfg, 1))
    assert AccuracyCheck(Oracle(cfg, 2), max_drop)(Path("file")) is passes
    table = capsys.readouterr().out
    assert "100.00" in table and "50.50" in table and "49.50" in table and "3 images" in table
    assert ("passed" in table) is passes and ("FAILED" in table) is not passes
    assert "tiny: openvino, int8, computed in int8" in table


def test_a_better_file_passes(cfg, monkeypatch):
    monkeypatch.setattr(check_module, "ExportedModel", lambda file: StubFile(cfg, 2))
    assert AccuracyCheck(Oracle(cfg, 1), 0.0)(Path("file"))


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
def test_a_model_that_finds_nothing_is_no_measure(cfg):
    with pytest.raises(UserError, match=r"mask AP on .* is nan"):
        AccuracyCheck(Oracle(cfg, 0), 0.5)


def test_a_dataset_without_validation_split_is_refused(cfg):
    cfg.DATASETS.TEST = ()
    with pytest.raises(UserError, match="no validation split"):
        AccuracyCheck(Oracle(cfg, 2), 0.5)


def test_calibration_images_are_spread_over_the_training_split(cfg):
    assert [int(image[0, 0, 0]) for image in training_images(cfg, count=3)] == [0, 2, 4]
    assert len(training_images(cfg, count=100)) == 5
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(UserError, match="no training split"):
        training_images(cfg)
