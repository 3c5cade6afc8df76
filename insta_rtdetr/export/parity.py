"""Whether the exported file finds what the model finds."""

from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from insta_rtdetr.predict.result import Result

# Objects with at least this score are compared; of a model that is sure of nothing, all that it gives.
MIN_SCORE = 0.3


@dataclass(frozen=True)
class Tolerance:
    """What may differ.

    Attributes:
        score: of an object, absolute.
        box: of a box's sides, fraction of the picture's longer side.
        mask_iou: of an object's two masks, at least.
        agreement: share of the objects that must be found by both, each within the limits above.
    """

    score: float
    box: float
    mask_iou: float
    agreement: float


# By the precision that a runtime computes in.
TOLERANCES = {
    "fp32": Tolerance(score=1e-3, box=1e-3, mask_iou=0.99, agreement=1.0),
    "fp16": Tolerance(score=0.05, box=0.02, mask_iou=0.9, agreement=0.95),
}


@dataclass
class Parity:
    """The comparison of all pictures.

    Attributes:
        tolerance: of the precision.
        num_pictures: compared.
        num_objects: that either of the two found, an object of both counted once.
        num_agreed: of these, found by both, within the tolerance.
        rank_score: largest difference of the k-th best scores of a picture, over all objects that are given.
        score, box, mask_iou: worst of the objects that both found; box in pixels.
    """

    tolerance: Tolerance
    num_pictures: int = 0
    num_objects: int = 0
    num_agreed: int = 0
    rank_score: float = 0.0
    score: float = 0.0
    box: float = 0.0
    mask_iou: float = 1.0

    @property
    def passed(self) -> bool:
        """Whether the two agree; that nothing was compared is no agreement."""
        return (
            self.num_objects > 0
            and self.rank_score <= self.tolerance.score
            and self.num_agreed >= self.tolerance.agreement * self.num_objects
        )

    def add(self, expected: Result, found: Result) -> None:
        """Compare what the model and the exported file found in a picture, whatever the scores."""
        self.num_pictures += 1
        count = min(len(expected), len(found))
        self.rank_score = max(
            self.rank_score,
            float(np.abs(expected.scores[:count] - found.scores[:count]).max(initial=0)),
            *(float(rest.scores[count:].max(initial=0)) for rest in (expected, found)),
        )
        lowest = MIN_SCORE if expected.scores.max(initial=0) >= MIN_SCORE else expected.scores.min(initial=1)
        unmatched = set(range(len(found)))
        for i in range(len(expected)):
            partner = _partner(expected, i, found, unmatched)
            if partner is None:
                # Next to the limit an object may be there or not.
                self.num_objects += expected.scores[i] > lowest + self.tolerance.score
                continue
            unmatched.remove(partner)
            if max(expected.scores[i], found.scores[partner]) >= lowest:
                self._compare(expected, i, found, partner)
        self.num_objects += sum(found.scores[j] > lowest + self.tolerance.score for j in unmatched)

    def _compare(self, expected: Result, i: int, found: Result, j: int) -> None:
        score = abs(float(expected.scores[i] - found.scores[j]))
        box = float(np.abs(expected.boxes[i] - found.boxes[j]).max())
        mask_iou = _mask_iou(expected.masks[i], found.masks[j])
        self.score, self.box = max(self.score, score), max(self.box, box)
        self.mask_iou = min(self.mask_iou, mask_iou)
        self.num_objects += 1
        self.num_agreed += (
            score <= self.tolerance.score
            and box <= self.tolerance.box * max(expected.image.shape[:2])
            and mask_iou >= self.tolerance.mask_iou
        )

    def to_table(self) -> str:
        """For a terminal."""
        limit = self.tolerance
        rows = [
            ["objects that agree", f"{self.num_agreed} of {self.num_objects}", f"at least {limit.agreement:.0%}"],
            ["largest difference of the k-th best scores", f"{self.rank_score:.2e}", f"{limit.score}"],
            ["largest difference of an object's scores", f"{self.score:.2e}", f"{limit.score}"],
            ["largest difference of a box, pixels", f"{self.box:.2e}", f"{limit.box} of the picture's longer side"],
            ["lowest IoU of an object's masks", f"{self.mask_iou:.4f}", f"at least {limit.mask_iou}"],
        ]
        verdict = "passed" if self.passed else "FAILED"
        headers = [f"{self.num_pictures} pictures", "found", "limit of an object"]
        return f"{tabulate(rows, headers=headers, disable_numparse=True)}\nparity: {verdict}"


def _partner(expected: Result, i: int, found: Result, candidates: set[int]) -> int | None:
    """The candidate of the same class with the nearest box, if the boxes overlap by half or more."""
    same = [j for j in candidates if found.class_ids[j] == expected.class_ids[i]]
    if not same:
        return None
    distances = np.abs(found.boxes[same] - expected.boxes[i]).max(1)
    # Of several objects in one place, the one with the nearest score.
    nearest = min(zip(distances.round(1), np.abs(found.scores[same] - expected.scores[i]), same))
    return nearest[2] if _box_iou(expected.boxes[i], found.boxes[nearest[2]]) >= 0.5 else None


def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    if np.array_equal(a, b):
        return 1.0  # an empty mask has an empty box
    sides = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(min=0)
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - np.prod(sides)
    return float(np.prod(sides) / max(union, 1e-9))


def _mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
