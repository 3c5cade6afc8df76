"""A training image with its objects, masks still in COCO's compact form; and the Instances it becomes.

Shapes: T objects, (H, W) the output in pixels.
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
    def of_annotations(cls, image: np.ndarray, annotations: list[dict], needs_masks: bool = True) -> "Sample":
        """Detectron2's annotations; crowd regions are left out.

        Args:
            needs_masks: if not, the mask of an object without one is its box.

        Raises:
            ValueError: a mask is needed, and an annotation has no segmentation.
        """
        objects = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
        boxes = [BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects]
        segmentations = [annotation.get("segmentation") for annotation in objects]
        for i, annotation in enumerate(objects):
            if segmentations[i]:
                continue
            if needs_masks:
                raise ValueError(f"the object of class {annotation['category_id']} at {annotation['bbox']} has no mask")
            left, top, right, bottom = boxes[i]
            segmentations[i] = [[left, top, right, top, right, bottom, left, bottom]]
        return cls(
            image,
            np.array(boxes, dtype=np.float64).reshape(-1, 4),
            np.array([annotation["category_id"] for annotation in objects], dtype=np.int64),
            segmentations,
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

    def instances(self, view: View, min_size: float, with_masks: bool = True) -> Instances:
        """The objects as seen through a view.

        Args:
            min_size: objects with a box side below this (pixels), or with fewer mask pixels, are dropped.
            with_masks: False: no masks are made, and none counted.
        Returns:
            Instances with gt_boxes, gt_classes and gt_masks (BitMasks); empty ones if no object is left.
        """
        boxes = view.apply_boxes(self.boxes_xyxy)
        is_large = ((boxes[:, 2:] - boxes[:, :2]) >= max(min_size, 1e-3)).all(axis=1)
        seen = self.select(is_large)
        instances = Instances((view.out_height, view.out_width))
        instances.gt_boxes = Boxes(torch.as_tensor(boxes[is_large], dtype=torch.float32))
        instances.gt_classes = torch.as_tensor(seen.classes)
        if not with_masks:
            return instances
        masks = seen.masks(view)
        num_pixels = np.count_nonzero(masks.reshape(len(masks), view.out_height * view.out_width), axis=1)
        has_mask = num_pixels >= max(min_size, 1)
        if not has_mask.all():
            instances, masks = instances[torch.as_tensor(has_mask)], masks[has_mask]
        instances.gt_masks = BitMasks(torch.as_tensor(masks))
        return instances
