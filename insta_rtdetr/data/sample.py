"""A training image with its objects, masks still in COCO's compact form; and the Instances it becomes.

Letters: T objects, (H, W) the output in pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances

from .view import View


@dataclass
class Sample:
    """An image and its objects.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        boxes_xyxy: float64 (T, 4), pixels.
        classes: int64 (T,), 0-based.
        segmentations: T masks, each COCO polygons or RLE.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    classes: np.ndarray
    segmentations: list[Any]

    @classmethod
    def of_annotations(cls, image: np.ndarray, annotations: list[dict]) -> "Sample":
        """Detectron2's annotations; crowd regions are left out.

        Raises:
            ValueError: an annotation has no segmentation.
        """
        objects = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
        for annotation in objects:
            if not annotation.get("segmentation"):
                raise ValueError(f"the object of class {annotation['category_id']} at {annotation['bbox']} has no mask")
        boxes = [BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects]
        return cls(
            image,
            np.array(boxes, dtype=np.float64).reshape(-1, 4),
            np.array([annotation["category_id"] for annotation in objects], dtype=np.int64),
            [annotation["segmentation"] for annotation in objects],
        )

    def __len__(self) -> int:
        return len(self.classes)

    def select(self, kept: np.ndarray) -> "Sample":
        """The objects of a (T,) bool array or of indices; the image is not copied."""
        indices = np.arange(len(self))[kept]
        return Sample(
            self.image, self.boxes_xyxy[indices], self.classes[indices], [self.segmentations[i] for i in indices]
        )

    def masks(self, view: View) -> np.ndarray:
        """bool (T, H, W): each object's mask as seen through a view."""
        masks = np.zeros((len(self), view.out_height, view.out_width), dtype=bool)
        for segmentation, mask in zip(self.segmentations, masks):
            view.draw_mask(segmentation, mask)
        return masks

    def instances(self, view: View, min_size: float) -> Instances:
        """The objects as seen through a view.

        Args:
            min_size: objects with a box side below this (pixels), or with fewer mask pixels, are dropped.
        Returns:
            Instances with gt_boxes, gt_classes and gt_masks (BitMasks); empty ones if no object is left.
        """
        boxes = view.apply_boxes(self.boxes_xyxy)
        is_large = ((boxes[:, 2:] - boxes[:, :2]) >= max(min_size, 1e-3)).all(axis=1)
        seen = self.select(is_large)
        masks = seen.masks(view)
        num_pixels = np.count_nonzero(masks.reshape(len(masks), view.out_height * view.out_width), axis=1)
        has_mask = num_pixels >= max(min_size, 1)
        if not has_mask.all():
            masks = masks[has_mask]
        instances = Instances((view.out_height, view.out_width))
        instances.gt_boxes = Boxes(torch.as_tensor(boxes[is_large][has_mask], dtype=torch.float32))
        instances.gt_classes = torch.as_tensor(seen.classes[has_mask])
        instances.gt_masks = BitMasks(torch.as_tensor(masks))
        return instances
