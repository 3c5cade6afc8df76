"""Merging of what neighbouring tiles of an image show of one object.

Three rules decide.  Of several tiles that show an object whole, the one counts that shows its centre farthest from a
border.  An object that ends at the border of its tile, but not of the image, is cut: it gives way to a whole object of
another tile that covers it.  Cut objects of several tiles that no tile shows whole become one object.

Shapes: N objects of all tiles, (H, W) the size of the image in pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pycocotools.mask as coco_mask
import torch
from detectron2.structures import Boxes, Instances

from insta_rtdetr.layers.mask_rle import decode_crop, encode_crop
from insta_rtdetr.layers.rle_masks import RleMasks

from .overlaps import areas_of, intersections, rles_of

# Overlap from which two tiles are taken to show one object: the share of one mask that the other one covers, which is
# never less than their IoU; or the IoU of those parts of the masks that lie in both tiles.
SAME_OBJECT = 0.5
# An object is cut if it ends nearer to the border of its tile than this fraction of the tile's side.
CUT_MARGIN = 0.01


@dataclass(frozen=True)
class Pair:
    """Two objects of different tiles, of one class, whose masks overlap.

    Attributes:
        first, second: their indices.
        covered: share of the first mask that the second one covers, and the reverse.
        seam_iou: IoU of those parts of the masks that lie in both tiles.
    """

    first: int
    second: int
    covered: tuple[float, float]
    seam_iou: float

    def covered_share(self, index: int) -> float:
        """Return the share of one of the two masks that the other one covers."""
        return self.covered[0] if index == self.first else self.covered[1]


class TileMerger:
    """Collector of the objects of all tiles of an image, which it merges."""

    def __init__(self, size_hw: tuple[int, int]) -> None:
        """Begin without objects; `size_hw` is the size of the image in pixels."""
        self._size = size_hw
        self._tiles: list[tuple[int, int, int, int]] = []  # left, top, right, bottom
        self._rles: list[dict] = []
        self._boxes: list[np.ndarray] = []
        self._scores: list[float] = []
        self._classes: list[int] = []
        self._tile_of: list[int] = []
        self._is_cut: list[bool] = []
        self._depths: list[float] = []  # from the object's centre to the nearest border of its tile, see `_depth`
        self._has_masks = True

    def add(self, corner: tuple[int, int], found: Instances) -> None:
        """Add the objects of a tile whose first pixel is at `corner` (row, column) of the image."""
        (top, left), (height, width) = corner, found.image_size
        tile = (left, top, left + width, top + height)
        boxes = found.pred_boxes.tensor.cpu().numpy()
        for rle, box, score, class_id in zip(rles_of(found), boxes, found.scores.tolist(), found.pred_classes.tolist()):
            moved = self._moved(rle, top, left)
            if moved is None:
                continue  # The mask has no pixel.
            self._rles.append(moved)
            self._boxes.append(box + (left, top, left, top))
            self._scores.append(score)
            self._classes.append(class_id)
            self._tile_of.append(len(self._tiles))
            box_xywh = coco_mask.toBbox(rle)
            centre = np.concatenate([box_xywh[:2] + box_xywh[2:] / 2, (0, 0)])
            self._is_cut.append(self._depth(tile, box_xywh) < CUT_MARGIN)
            # Measured at its border, a small object would be farther away than a large one at the same place.
            self._depths.append(self._depth(tile, centre))
        self._tiles.append(tile)
        self._has_masks = found.has("pred_masks")

    def _moved(self, rle: dict, top: int, left: int) -> dict | None:
        crop, y, x = decode_crop(rle)
        return encode_crop(torch.from_numpy(crop), top + y, left + x, self._size) if crop.size else None

    def _depth(self, tile: tuple[int, int, int, int], box_xywh: np.ndarray) -> float:
        """Return how far a box is from the nearest border of its tile at which the image goes on.

        Args:
            tile: left, top, right and bottom of the tile in the image.
            box_xywh: the box, in the tile.

        Returns:
            the distance as a fraction of the tile's side; infinite if the tile is the whole image.
        """
        left, top, right, bottom = tile
        x, y, width, height = box_xywh
        gaps = (
            (left > 0, x / (right - left)),
            (top > 0, y / (bottom - top)),
            (right < self._size[1], 1 - (x + width) / (right - left)),
            (bottom < self._size[0], 1 - (y + height) / (bottom - top)),
        )
        return min((gap for image_goes_on, gap in gaps if image_goes_on), default=math.inf)

    def merged(self) -> Instances:
        """Return the merged objects of all tiles, the highest score first."""
        pairs = self._pairs()
        kept = self._without_repeated(pairs)
        groups = self._joined([pair for pair in pairs if {pair.first, pair.second} <= kept], sorted(kept))
        # The order of the tiles decides between equal scores.
        groups.sort(key=lambda group: -max(self._scores[i] for i in group))
        best = [max(group, key=lambda i: self._scores[i]) for group in groups]
        boxes = [self._box(group) for group in groups]
        instances = Instances(self._size)
        instances.pred_boxes = Boxes(torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)))
        if self._has_masks:
            instances.pred_masks = RleMasks([self._mask(group) for group in groups], self._size)
        instances.scores = torch.tensor([self._scores[i] for i in best], dtype=torch.float32)
        instances.pred_classes = torch.tensor([self._classes[i] for i in best], dtype=torch.int64)
        return instances

    def _pairs(self) -> list[Pair]:
        """Return the overlapping pairs of one class in different tiles."""
        tiles, tile_of = np.array(self._tiles).reshape(-1, 4), np.array(self._tile_of)
        members = [np.flatnonzero(tile_of == i).tolist() for i in range(len(tiles))]
        pairs = []
        for i in range(len(tiles)):
            starts, ends = np.maximum(tiles[i, :2], tiles[i + 1 :, :2]), np.minimum(tiles[i, 2:], tiles[i + 1 :, 2:])
            for number in np.flatnonzero((starts < ends).all(axis=1)):
                region = (*starts[number].tolist(), *ends[number].tolist())
                pairs += self._pairs_between(members[i], members[i + 1 + number], region)
        return pairs

    def _pairs_between(
        self, firsts: list[int], seconds: list[int], region: tuple[int, int, int, int]
    ) -> Iterator[Pair]:
        """Yield the overlapping pairs of two tiles.

        Args:
            firsts, seconds: objects of either tile.
            region: left, top, right and bottom of what both tiles show.
        """
        left, top, right, bottom = region
        whole_region = encode_crop(torch.ones(bottom - top, right - left, dtype=torch.bool), top, left, self._size)
        rles_a, rles_b = ([self._rles[index] for index in indices] for indices in (firsts, seconds))
        common, areas_a, areas_b = intersections(rles_a, rles_b), areas_of(rles_a), areas_of(rles_b)
        within_a, within_b = (intersections(rles, [whole_region])[:, 0] for rles in (rles_a, rles_b))
        for row, column in np.argwhere(common > 0):
            first, second, shared = firsts[row], seconds[column], common[row, column]
            if self._classes[first] == self._classes[second]:
                # Two masks have nothing in common but within the region.
                seam_iou = shared / (within_a[row] + within_b[column] - shared)
                yield Pair(first, second, (shared / areas_a[row], shared / areas_b[column]), seam_iou)

    def _without_repeated(self, pairs: list[Pair]) -> set[int]:
        """Return the objects that stay when others of another tile stand for them."""
        of_object: dict[int, list[Pair]] = {}
        for pair in pairs:
            for index in (pair.first, pair.second):
                of_object.setdefault(index, []).append(pair)
        kept: set[int] = set()
        dropped: set[int] = set()
        order = sorted(range(len(self._rles)), key=lambda i: (self._is_cut[i], -self._depths[i], -self._scores[i]))
        for index in order:
            if index in dropped:
                continue
            kept.add(index)
            for pair in of_object.get(index, ()):
                other = pair.second if index == pair.first else pair.first
                if other not in kept and self._is_repeated(other, index, pair):
                    dropped.add(other)
        return kept

    def _is_repeated(self, index: int, by: int, pair: Pair) -> bool:
        """Return whether an object that stays stands for another one, too."""
        if self._is_cut[by]:
            return False
        if self._is_cut[index]:
            return pair.covered_share(index) >= SAME_OBJECT
        return max(pair.covered) >= SAME_OBJECT

    def _joined(self, pairs: list[Pair], kept: list[int]) -> list[list[int]]:
        """Group the objects: cut ones that are parts of one object, each other one alone."""
        group_of = {index: [index] for index in kept}
        both_cut = [pair for pair in pairs if self._is_cut[pair.first] and self._is_cut[pair.second]]
        overlaps = [(max(*pair.covered, pair.seam_iou), pair) for pair in both_cut]
        for overlap, pair in sorted(overlaps, key=lambda one: -one[0]):
            first, second = group_of[pair.first], group_of[pair.second]
            tiles = [self._tile_of[index] for index in first + second]
            # A tile shows each object once.
            if overlap < SAME_OBJECT or first is second or len(set(tiles)) < len(tiles):
                continue
            first += second
            group_of.update(dict.fromkeys(second, first))
        return list({id(group): group for group in group_of.values()}.values())

    def _box(self, group: list[int]) -> np.ndarray:
        boxes = np.array([self._boxes[i] for i in group])
        return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])

    def _mask(self, group: list[int]) -> dict:
        return self._rles[group[0]] if len(group) == 1 else coco_mask.merge([self._rles[i] for i in group])
