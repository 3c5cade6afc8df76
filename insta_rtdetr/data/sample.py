"""A training image with its objects, whose masks are kept in COCO's compact form until the Instances are made.

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
    """Training image with its objects.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        boxes_xyxy: float64 (T, 4), pixels.
        classes: int64 (T,), class indices from 0.
        segmentations: T masks, each COCO polygons or RLE.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    classes: np.ndarray
    segmentations: list[Any]

    @classmethod
    def of_annotations(cls, image: np.ndarray, annotations: list[dict], needs_masks: bool = True) -> "Sample":
        """Make a sample of an image and Detectron2's annotations; crowd regions are left out.

        Args:
            image: uint8 (H, W, 3), RGB.
            annotations: Detectron2's dicts of the objects.
            needs_masks: if False, an object without a mask gets its box as the mask.

        Raises:
            ValueError: masks are needed, and an annotation has no segmentation.
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
        """Return the sample with only the objects of a (T,) bool array or of indices; the image is not copied."""
        indices = np.arange(len(self))[kept]
        return Sample(
            self.image, self.boxes_xyxy[indices], self.classes[indices], [self.segmentations[i] for i in indices]
        )

    def masks(self, view: View) -> np.ndarray:
        """Draw each object's mask as seen through a view: bool (T, H, W)."""
        masks = np.zeros((len(self), view.out_height, view.out_width), dtype=bool)
        for segmentation, mask in zip(self.segmentations, masks):
            view.draw_mask(segmentation, mask)
        return masks

    def instances(self, view: View, min_size: float, with_masks: bool = True) -> Instances:
        """Turn the objects, as seen through a view, into Detectron2's Instances.

        Args:
            view: the geometric transform of the image.
            min_size: objects with a box side below this (in pixels), or with fewer mask pixels, are dropped.
            with_masks: if False, no masks are made, and no object is dropped for its mask.

        Returns:
            Instances with gt_boxes, gt_classes and, with masks, gt_masks (BitMasks); they are empty if no object is
            left.
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
