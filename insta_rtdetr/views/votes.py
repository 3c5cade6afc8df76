"""Merging of what several views show of an image, in which each view has a vote on each object.

Shapes: V views, N objects of all views, M merged objects, (H, W) the image in pixels.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from insta_rtdetr.layers.mask_rle import decode_crop, encode_crop
from insta_rtdetr.layers.rle_masks import RleMasks

from .overlaps import ious, rles_of

# IoU of two masks from which two views are taken to show one object.
SAME_OBJECT = 0.5


def merge_views(by_view: Sequence[Instances]) -> Instances:
    """Merge the objects of V views of one image.

    The object with the highest score gathers from each other view the object of its class whose mask overlaps its own
    most, with an IoU of at least SAME_OBJECT; then the next one that is left does so.  Of a group

    - the score is the sum of the scores, divided by V: a view that missed the object counts as 0;
    - the box is the mean of the boxes, weighted by their scores;
    - the mask has the pixels of those objects that have more than half of the group's scores.

    Args:
        by_view: the objects that each view shows, in pixels of the image.

    Returns:
        the M objects, the highest score first, with `RleMasks` if the views have masks.
    """
    size = by_view[0].image_size
    scores = np.concatenate([found.scores.numpy() for found in by_view])
    groups = _groups(by_view, scores)
    merged_scores = np.array([scores[group].sum() / len(by_view) for group in groups], dtype=np.float32)
    order = np.argsort(-merged_scores, kind="stable")
    groups = [groups[place] for place in order]
    boxes = np.concatenate([found.pred_boxes.tensor.numpy() for found in by_view])
    classes = np.concatenate([found.pred_classes.numpy() for found in by_view])
    instances = Instances(size)
    means = [_weighted_mean(boxes[group], scores[group]) for group in groups]
    instances.pred_boxes = Boxes(torch.from_numpy(np.array(means, np.float32).reshape(-1, 4)))
    if by_view[0].has("pred_masks"):
        rles = [rle for found in by_view for rle in rles_of(found)]
        masks = [_majority([rles[index] for index in group], scores[group]) for group in groups]
        instances.pred_masks = RleMasks(masks, size)
    instances.scores = torch.from_numpy(merged_scores[order])
    instances.pred_classes = torch.tensor([int(classes[group[0]]) for group in groups], dtype=torch.int64)
    return instances


def _groups(by_view: Sequence[Instances], scores: np.ndarray) -> list[list[int]]:
    """Divide the N objects into groups of one object each, the best one first, with at most one of each view."""
    rivals: list[list[tuple[float, int, int]]] = [[] for _ in scores]
    for first, second, view, other_view, iou in _overlaps(by_view):
        rivals[first].append((iou, second, other_view))
        rivals[second].append((iou, first, view))
    groups, is_taken = [], np.zeros(len(scores), dtype=bool)
    for best in np.argsort(-scores, kind="stable").tolist():
        if is_taken[best]:
            continue
        group: dict[int, int] = {}
        # Of one view, the object that overlaps most.
        for _, index, view in sorted(rivals[best], reverse=True):
            if not is_taken[index]:
                group.setdefault(view, index)
        groups.append([best, *group.values()])
        is_taken[groups[-1]] = True
    return groups


def _overlaps(by_view: Sequence[Instances]) -> Iterator[tuple[int, int, int, int, float]]:
    """Yield two objects of one class and of different views, their views, and the IoU, from SAME_OBJECT on."""
    starts = np.cumsum([0, *map(len, by_view)]).tolist()
    rles, classes = [rles_of(found) for found in by_view], [found.pred_classes.numpy() for found in by_view]
    for view in range(len(by_view)):
        for other in range(view + 1, len(by_view)):
            overlaps = ious(rles[view], rles[other])
            is_same = (overlaps >= SAME_OBJECT) & (classes[view][:, None] == classes[other])
            for row, column in np.argwhere(is_same).tolist():
                yield starts[view] + row, starts[other] + column, view, other, float(overlaps[row, column])


def _weighted_mean(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return (boxes * scores[:, None]).sum(axis=0) / scores.sum() if scores.sum() > 0 else boxes[0]


def _majority(rles: list[dict], scores: np.ndarray) -> dict:
    """Return the mask of the pixels of those masks that have more than half of the scores."""
    if len(rles) == 1:
        return rles[0]
    crops = [decode_crop(rle) for rle in rles]
    top, left = (min(crop[axis] for crop in crops) for axis in (1, 2))
    bottom = max(start + len(crop) for crop, start, _ in crops)
    right = max(start + crop.shape[1] for crop, _, start in crops)
    votes = np.zeros((bottom - top, right - left))
    for (crop, y, x), score in zip(crops, scores.tolist()):
        votes[y - top : y - top + len(crop), x - left : x - left + crop.shape[1]] += score * crop
    return encode_crop(torch.from_numpy(2 * votes > scores.sum(dtype=float)), top, left, tuple(rles[0]["size"]))
