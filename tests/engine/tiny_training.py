"""A very small model and dataset for tests of training."""

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import Tensor, nn

from insta_rtdetr.data.datasets import register_coco_json
from insta_rtdetr.engine import setup_cfg

SIDE = 32


@META_ARCH_REGISTRY.register()
class TinySegmenter(nn.Module):
    """Model that predicts a box, and a mask from one convolution, of one object in each image."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.norm = nn.LayerNorm(4)
        self.box = nn.Linear(4, 4)
        self.mask = nn.Conv2d(4, 1, 1)
        self.multi_scale_enabled = True
        # Tests set this to NaN for one iteration.
        self.disturbance = 0.0
        self.to(cfg.MODEL.DEVICE)

    def forward(self, batch: list[dict]):
        images = torch.stack([item["image"].float() / 255 for item in batch]).to(self.box.weight.device)
        features = self.backbone(images + self.disturbance)
        boxes = self.box(self.norm(features.mean((2, 3)))).sigmoid() * SIDE
        masks = self.mask(features)[:, 0]
        return self._losses(batch, boxes, masks) if self.training else self._instances(batch, boxes, masks)

    def _losses(self, batch: list[dict], boxes: Tensor, masks: Tensor) -> dict[str, Tensor]:
        targets = [item["instances"] for item in batch]
        wanted_boxes = torch.stack([target.gt_boxes.tensor[0] for target in targets]).to(boxes)
        wanted_masks = torch.stack([target.gt_masks.tensor[0] for target in targets]).to(masks)
        return {
            "loss_box": (boxes - wanted_boxes).abs().mean() / SIDE,
            "loss_mask": nn.functional.binary_cross_entropy_with_logits(masks, wanted_masks),
        }

    def _instances(self, batch: list[dict], boxes: Tensor, masks: Tensor) -> list[dict]:
        results = []
        for item, box, mask in zip(batch, boxes, masks):
            found = Instances((item["height"], item["width"]))
            found.pred_boxes = Boxes(torch.cat([box[:2].minimum(box[2:]), box[:2].maximum(box[2:]) + 1])[None])
            found.scores = mask.sigmoid().max()[None]
            found.pred_classes = torch.zeros(1, dtype=torch.long, device=box.device)
            found.pred_masks = mask[None] > 0
            results.append({"instances": found})
        return results


def write_dataset(folder: Path, num_images: int = 4, seed: int = 0) -> Path:
    """Write images of one bright square each, and their COCO file, whose path is returned."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for index in range(1, num_images + 1):
        left, top, side = (int(value) for value in rng.integers(4, 14, 3))
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[top : top + side, left : left + side] += 180
        Image.fromarray(pixels).save(folder / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": SIDE, "width": SIDE})
        square = [left, top, left + side, top, left + side, top + side, left, top + side]
        annotations.append({"id": index, "image_id": index, "category_id": 1, "iscrowd": 0, "area": side * side})
        annotations[-1] |= {"bbox": [left, top, side, side], "segmentation": [square]}
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    file = folder / "annotations.json"
    file.write_text(json.dumps(content))
    return file


def register_dataset(name: str, folder: Path) -> str:
    """Register a dataset of `write_dataset`, in place of one of the same name."""
    register_coco_json(name, folder / "annotations.json", folder)
    return name


def tiny_overrides(dataset: str, output_dir: Path, **more) -> list[str]:
    """Return KEY VALUE pairs of a run of six iterations, and those of `more`, whose keys have __ for the dot."""
    values = {
        "MODEL.META_ARCHITECTURE": "TinySegmenter",
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.NUM_CLASSES": 1,
        "DATASETS.TRAIN": (dataset,),
        "DATASETS.TEST": (dataset,),
        "DATALOADER.NUM_WORKERS": 0,
        "INPUT.FORMAT": "RGB",
        "INPUT.MASK_FORMAT": "bitmask",
        "INPUT.RANDOM_FLIP": "none",
        "INPUT.MIN_SIZE_TEST": 0,
        "INPUT.FIXED_SIZE": (SIDE, SIDE),
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.MAX_ITER": 6,
        "SOLVER.STEPS": (4,),
        "SOLVER.WARMUP_ITERS": 2,
        "SOLVER.BASE_LR": 0.01,
        "SOLVER.EMA.ENABLED": True,
        "SOLVER.EMA.RAMP_ITERS": 2,
        "SOLVER.CLIP_GRADIENTS.ENABLED": True,
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model",
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.1,
        "SEED": 3,
        "OUTPUT_DIR": str(output_dir),
    } | {key.replace("__", "."): value for key, value in more.items()}
    return [str(word) for pair in values.items() for word in pair]


def tiny_cfg(dataset: str, output_dir: Path, **more) -> CfgNode:
    """Return the config with the overrides of `tiny_overrides`."""
    return setup_cfg("", tiny_overrides(dataset, output_dir, **more))
