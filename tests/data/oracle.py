"""Models that know the answer: what they score is known beforehand."""

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from pycocotools import mask as mask_util
from scipy import ndimage
from torch import nn


@META_ARCH_REGISTRY.register()
class Oracle(nn.Module):
    """Finds every object of DATASETS.TEST."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        (name,) = cfg.DATASETS.TEST
        self.known = {item["file_name"]: item for item in DatasetCatalog.get(name)}

    def forward(self, batch: list[dict]) -> list[dict]:
        return [{"instances": self.answer(item)} for item in batch]

    def answer(self, item: dict) -> Instances:
        annotations = [a for a in self.known[item["file_name"]]["annotations"] if not a["iscrowd"]]
        found = Instances((item["height"], item["width"]))
        boxes = [BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.linspace(0.9, 0.5, len(annotations))
        found.pred_classes = torch.tensor([a["category_id"] for a in annotations])
        found.pred_masks = BitMasks(torch.stack([to_mask(a["segmentation"], item) for a in annotations])).tensor
        return found


@META_ARCH_REGISTRY.register()
class HalfBlindOracle(Oracle):
    """Finds every object but those of the last class of each image: of two classes, half the AP."""

    def answer(self, item: dict) -> Instances:
        found = super().answer(item)
        return found[found.pred_classes < found.pred_classes.max()]


@META_ARCH_REGISTRY.register()
class ConfusedOracle(Oracle):
    """Finds every object and takes one class for the other: no AP."""

    def answer(self, item: dict) -> Instances:
        found = super().answer(item)
        found.pred_classes = found.pred_classes.flip(0)
        return found


@META_ARCH_REGISTRY.register()
class SeeingOracle(Oracle):
    """Finds the bright rectangles of `tests.data.trees` by their pixels, in any part of an image that has all its rows.

    The first class reaches higher than the second.
    """

    def answer(self, item: dict) -> Instances:
        image = item["image"][0].numpy() > 120
        labels, count = ndimage.label(image)
        masks = [labels == number for number in range(1, count + 1)]
        order = sorted((int(a["bbox"][1]), a["category_id"]) for a in next(iter(self.known.values()))["annotations"]
                       if not a["iscrowd"])  # fmt: skip
        (_, higher), (second_top, lower) = order
        found = Instances((item["height"], item["width"]))
        found.pred_masks = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *image.shape))
        found.pred_boxes = BitMasks(found.pred_masks).get_bounding_boxes()
        found.scores = torch.full((count,), 0.9)
        tops = [int(np.flatnonzero(mask.any(axis=1))[0]) for mask in masks]
        found.pred_classes = torch.tensor([higher if top < second_top else lower for top in tops], dtype=torch.int64)
        return found


def to_mask(segmentation: list | dict, item: dict) -> torch.Tensor:
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, item["height"], item["width"]))
    return torch.from_numpy(mask_util.decode(segmentation).astype(np.bool_))
