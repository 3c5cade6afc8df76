"""Comparison of the objects that an exported file and its model find."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from tabulate import tabulate

from insta_rtdetr.layers.boxes import iou_and_giou
from insta_rtdetr.predict.result import Result

# Objects with at least this score are compared; if the model finds none in an image, all objects are.
MIN_SCORE = 0.3


@dataclass(frozen=True)
class Tolerance:
    """Limits of the differences.

    Attributes:
        score: largest difference of an object's scores.
        box: largest difference of a coordinate of an object's boxes, as a fraction of the image's longer side.
        mask_iou: lowest IoU of an object's masks.
        agreement: fraction of the objects that both must find within these limits.
    """

    score: float
    box: float
    mask_iou: float
    agreement: float


# Precision of the file -> tolerance.  bfloat16 has eight times the rounding of float16; the differences are in objects
# of low scores and in the edges of small ones.
TOLERANCES = {
    "fp32": Tolerance(score=1e-3, box=1e-3, mask_iou=0.99, agreement=1.0),
    "fp16": Tolerance(score=0.05, box=0.02, mask_iou=0.9, agreement=0.95),
    "bf16": Tolerance(score=0.1, box=0.02, mask_iou=0.8, agreement=0.9),
    "int8": Tolerance(score=0.15, box=0.03, mask_iou=0.75, agreement=0.85),
}


@dataclass
class Parity:
    """The result of comparing file and model on all images.

    Attributes:
        tolerance: limits for the file's precision.
        num_images: number of compared images.
        num_objects: number of objects that either of the two found; an object that both found counts once.
        num_agreed: number of objects that both found within the tolerance.
        rank_score: largest difference of the k-th best scores of an image, over all returned objects.
        score, box, mask_iou: worst values of the objects that both found; `box` in pixels.
    """

    tolerance: Tolerance
    num_images: int = 0
    num_objects: int = 0
    num_agreed: int = 0
    rank_score: float = 0.0
    score: float = 0.0
    box: float = 0.0
    mask_iou: float = 1.0

    @property
    def passed(self) -> bool:
        """Return whether the two agree, which they do not if nothing was compared."""
        return (
            self.num_objects > 0
            and self.rank_score <= self.tolerance.score
            and self.num_agreed >= self.tolerance.agreement * self.num_objects
        )

    def add(self, expected: Result, found: Result) -> None:
        """Add an image to the comparison, from the objects of all scores that model and exported file found in it."""
        self.num_images += 1
        count = min(len(expected), len(found))
        self.rank_score = max(
            self.rank_score,
            float(np.abs(expected.scores[:count] - found.scores[:count]).max(initial=0)),
            *(float(rest.scores[count:].max(initial=0)) for rest in (expected, found)),
        )
        lowest = MIN_SCORE if expected.scores.max(initial=0) >= MIN_SCORE else expected.scores.min(initial=1)
        pairs = self._pairs(expected, found)
        for i, j in pairs:
            if max(expected.scores[i], found.scores[j]) >= lowest:
                self._compare(expected, i, found, j)
        for side, result in enumerate((expected, found)):
            alone = sorted(set(range(len(result))) - {pair[side] for pair in pairs})
            # An object whose score is next to the limit may be found by one of the two alone.
            self.num_objects += int((result.scores[alone] > lowest + self.tolerance.score).sum())

    def _pairs(self, expected: Result, found: Result) -> list[tuple[int, int]]:
        """Pair objects of one class whose boxes overlap, one to one, preferring pairs within the limits.

        A model may return an object several times; box and score together tell which belong to each other.
        """
        scores = np.abs(expected.scores[:, None] - found.scores) / self.tolerance.score
        boxes = np.abs(expected.boxes[:, None] - found.boxes).max(2) / self._box_limit(expected)
        distance = np.maximum(scores, boxes)
        # Empty boxes, or boxes that are clipped to nothing at the border, have no IoU.
        is_near = (boxes <= 1) | (_box_ious(expected.boxes, found.boxes) >= 0.5)
        is_possible = (expected.class_ids[:, None] == found.class_ids) & is_near
        # Any pair is better than none, and one within the limits is better than several beyond them.
        cost = np.where(is_possible, np.where(distance <= 1, distance, 1e3 + distance.clip(max=1e3)), 1e6)
        return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(cost)) if is_possible[i, j]]

    def _box_limit(self, result: Result) -> float:
        return self.tolerance.box * max(result.image.shape[:2])

    def _compare(self, expected: Result, i: int, found: Result, j: int) -> None:
        score = abs(float(expected.scores[i] - found.scores[j]))
        box = float(np.abs(expected.boxes[i] - found.boxes[j]).max())
        mask_iou = _mask_iou(expected.masks[i], found.masks[j])
        self.score, self.box = max(self.score, score), max(self.box, box)
        self.mask_iou = min(self.mask_iou, mask_iou)
        self.num_objects += 1
        self.num_agreed += (
            score <= self.tolerance.score
            and box <= self._box_limit(expected)
            and mask_iou >= self.tolerance.mask_iou
        )

    def to_table(self) -> str:
        """Format the comparison as a table of text."""
        limit = self.tolerance
        rows = [
            ["objects that agree", f"{self.num_agreed} of {self.num_objects}", f"at least {limit.agreement:.0%}"],
            ["largest difference of the k-th best scores", f"{self.rank_score:.2e}", f"{limit.score}"],
            ["largest difference of an object's scores", f"{self.score:.2e}", f"{limit.score}"],
            ["largest difference of a box, pixels", f"{self.box:.2e}", f"{limit.box} of the image's longer side"],
            ["lowest IoU of an object's masks", f"{self.mask_iou:.4f}", f"at least {limit.mask_iou}"],
        ]
        verdict = "passed" if self.passed else "FAILED"
        headers = [f"{self.num_images} images", "found", "limit of an object"]
        return f"{tabulate(rows, headers=headers, disable_numparse=True)}\nparity: {verdict}"


def _box_ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoUs (N, M) of xyxy boxes (N, 4) and (M, 4)."""
    return iou_and_giou(torch.as_tensor(a)[:, None], torch.as_tensor(b)[None])[0].numpy()


def _mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
