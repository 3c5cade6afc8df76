"""Test-time augmentation: an image is also seen mirrored and in other sizes, and what the views show is merged.

Objects of different views are taken for one if their masks overlap; what a model gives besides its objects is not
needed, so that any model will do.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from insta_rtdetr.errors import UserError
from insta_rtdetr.layers.mask_rle import decode_crop, encode_crop
from insta_rtdetr.layers.rle_masks import RleMasks

from .overlaps import rles_of
from .votes import merge_views

# Values of INPUT.RANDOM_FLIP -> whether images were mirrored in training, left to right and upside down.
FLIPS = {"none": (False, False), "horizontal": (True, False), "vertical": (False, True), "both": (True, True)}

# Finds objects in images (h, w, 3), for a network's input with this short side in pixels; 0 for its usual one.
FindAtSize = Callable[[list[np.ndarray], int], list[Instances]]


@dataclass(frozen=True)
class View:
    """Way to look at an image.

    Attributes:
        short_side: short side of the network's input in pixels; 0 for that without augmentation.
        flip_x, flip_y: whether the image is mirrored left to right, and upside down.
    """

    short_side: int = 0
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Mirror an image (H, W, 3)."""
        # A copy, because numpy calls one row contiguous even with a negative stride, which PyTorch refuses.
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1].copy()

    def undo(self, found: Instances) -> Instances:
        """Return the objects of the mirrored image as they lie in the image, with `RleMasks`."""
        height, width = found.image_size
        boxes = found.pred_boxes.tensor.clone()
        if self.flip_x:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        if self.flip_y:
            boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
        fields = found.get_fields() | {"pred_boxes": Boxes(boxes)}
        if found.has("pred_masks"):
            fields["pred_masks"] = RleMasks([self._mirrored(rle) for rle in rles_of(found)], (height, width))
        return Instances(found.image_size, **fields)

    def _mirrored(self, rle: dict) -> dict:
        if not (self.flip_x or self.flip_y):
            return rle
        (height, width), (crop, top, left) = rle["size"], decode_crop(rle)
        if self.flip_x:
            left = width - left - crop.shape[1]
        if self.flip_y:
            top = height - top - crop.shape[0]
        return encode_crop(torch.from_numpy(self.apply(crop)), top, left, (height, width))


@dataclass(frozen=True)
class Augmentation:
    """Views of an image, and the number of objects that are kept of them.

    Attributes:
        views: the views; several.
        max_objects: largest number of merged objects that are kept.
    """

    views: tuple[View, ...]
    max_objects: int

    def __str__(self) -> str:
        sizes = sorted({view.short_side for view in self.views})
        flips = {"left to right": any(view.flip_x for view in self.views),
                 "upside down": any(view.flip_y for view in self.views)}  # fmt: skip
        parts = [f"mirrored {' and '.join(name for name, is_used in flips.items() if is_used)}"] * any(flips.values())
        parts += [f"with short sides of {', '.join(map(str, sizes))} pixels"] * (sizes != [0])
        return f"{len(self.views)} views of each image, {', '.join(parts)}"


def augmentation_of(
    min_sizes: tuple[int, ...], flip: bool, vertical_flip: bool, random_flip: str, max_objects: int
) -> Augmentation:
    """Return the views that config keys ask for.

    Args:
        min_sizes: TEST.AUG.MIN_SIZES.
        flip: TEST.AUG.FLIP.
        vertical_flip: TEST.AUG.VERTICAL_FLIP.
        random_flip: INPUT.RANDOM_FLIP.  Flips that the network has not seen in training are left out.
        max_objects: largest number of merged objects that are kept.

    Raises:
        UserError: a value is wrong, or there is only one view.
    """
    wrong = [size for size in min_sizes if not (isinstance(size, int) and size > 0)]
    if wrong:
        raise UserError(f"TEST.AUG.MIN_SIZES has {wrong[0]!r}, wanted short sides in pixels, or () for the usual one.")
    seen_x, seen_y = FLIPS.get(random_flip, (False, False))
    flips_x = (False, True) if flip and seen_x else (False,)
    flips_y = (False, True) if vertical_flip and seen_y else (False,)
    views = itertools.product(dict.fromkeys(min_sizes) or (0,), flips_x, flips_y)
    augmentation = Augmentation(tuple(View(*one) for one in views), max_objects)
    if len(augmentation.views) == 1:
        raise UserError(
            f"Test-time augmentation has one view: INPUT.RANDOM_FLIP is {random_flip}, TEST.AUG.FLIP {flip}, "
            f"TEST.AUG.MIN_SIZES {tuple(min_sizes)}.  Give several sizes, or leave it out."
        )
    return augmentation


def augmentation_of_config(cfg: CfgNode) -> Augmentation:
    """Return the views of TEST.AUG; errors are those of `augmentation_of`."""
    aug = cfg.TEST.AUG
    return augmentation_of(
        aug.MIN_SIZES, aug.FLIP, aug.VERTICAL_FLIP, cfg.INPUT.RANDOM_FLIP, cfg.TEST.DETECTIONS_PER_IMAGE
    )


def find_in_views(find: FindAtSize, images: list[np.ndarray], augmentation: Augmentation) -> list[Instances]:
    """Find objects in all views of images, and merge what is found.

    Args:
        find: finds the objects in images; the scores that it leaves out count as 0.
        images: uint8 (H, W, 3), RGB, of any sizes.
        augmentation: the views.

    Returns:
        the objects in each image, the highest score first, with `RleMasks` as their masks.
    """
    by_view = []
    for view in augmentation.views:
        found = find([view.apply(image) for image in images], view.short_side)
        by_view.append([view.undo(one) for one in found])
    return [merge_views(of_image)[: augmentation.max_objects] for of_image in zip(*by_view)]
