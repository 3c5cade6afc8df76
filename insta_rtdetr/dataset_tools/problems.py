"""Kinds of problems that the dataset check can find, with their effect on training and their remedies."""

from collections import Counter
from dataclasses import dataclass, field

from .findings import Finding

EXAMPLES_KEPT = 5


@dataclass(frozen=True)
class Kind:
    """Kind of problem.

    Attributes:
        status: "FAIL" if training would stop, or would learn or measure something wrong; else "note".
        text: text of the finding, which completes "12 ...".
        remedy: what corrects a failure.
    """

    status: str
    text: str
    remedy: str = ""


CORRECT_FILE = "Correct the annotation file"

KINDS = {
    # Annotation file.
    "split_missing": Kind("FAIL", "split is missing", "Run: python tools/dataset.py split, or add it"),
    "dataset_unreadable": Kind("FAIL", "reason why it cannot be read", "See datasets/README.md"),
    "not_split": Kind("note", "split alone: it would be evaluated on what it is trained on (tools/dataset.py split)"),
    "json_invalid": Kind("FAIL", "annotation file is not in COCO's format", "Write it again"),
    "split_empty": Kind("FAIL", "split lists no image", "Add images"),
    "no_objects": Kind("FAIL", "split has no object with a mask", "Label its images, or choose another split"),
    "many_unusable": Kind("FAIL", "split loses more than a tenth of its objects", "Mend the kinds noted with it"),
    "category_id_duplicate": Kind("FAIL", "category ids are used twice", CORRECT_FILE),
    "category_name_duplicate": Kind("note", "category names are used twice"),
    "categories_differ": Kind("note", "split has other categories than the first; classes of one name are one"),
    "category_gap": Kind("note", "category ids are skipped; classes are numbered in the order of the ids"),
    "category_unused": Kind("note", "categories have no object"),
    "class_imbalance": Kind("note", "class has more than 100 times the objects of another"),
    # Image records.
    "image_field_invalid": Kind("FAIL", "images lack id, file_name, width or height, or have an impossible one",
                                CORRECT_FILE),
    "image_id_duplicate": Kind("FAIL", "image ids are used twice", CORRECT_FILE),
    "file_duplicate": Kind("FAIL", "image files are listed twice", "Join their annotations under one image"),
    "file_outside": Kind("FAIL", "file names leave the image folder", "Make them relative to it"),
    # Image files.
    "image_missing": Kind("FAIL", "images are missing", "Copy them into the image folder"),
    "image_unreadable": Kind("FAIL", "images cannot be read", "Copy them again, or remove them from the file"),
    "image_size_differs": Kind("FAIL", "images are not of the size that the file says", CORRECT_FILE),
    "image_content_twice": Kind("note", "images have the same content as another"),
    "image_in_two_splits": Kind("FAIL", "images are in two splits", "Remove them from one, so that results are honest"),
    "image_16_bit": Kind("note", "images have more than 8 bits; the highest 8 of 16 are used"),
    "image_animated": Kind("note", "images have several frames; the first is used"),
    "image_without_objects": Kind("note", "images have no object"),
    # Annotations.
    "annotation_field_invalid": Kind("FAIL", "annotations lack id, image_id, category_id or bbox", CORRECT_FILE),
    "annotation_id_duplicate": Kind("FAIL", "annotation ids are used twice", CORRECT_FILE),
    "image_unknown": Kind("FAIL", "annotations are of an image that is not listed", CORRECT_FILE),
    "category_unknown": Kind("FAIL", "annotations are of a category that is not listed", CORRECT_FILE),
    "box_invalid": Kind("FAIL", "boxes are not [x, y, width, height] in numbers", CORRECT_FILE),
    "box_not_finite": Kind("note", "boxes hold NaN or infinity, and their objects are left out"),
    "box_no_area": Kind("note", "boxes have no area, and their objects are left out"),
    "box_outside": Kind("note", "boxes lie outside their image, and their objects are left out"),
    "box_partly_outside": Kind("note", "boxes reach out of their image"),
    "mask_missing": Kind("FAIL", "objects have no mask", "Draw masks; boxes alone train MODEL.STAGE detector only"),
    "mask_invalid": Kind("FAIL", "masks are neither polygons nor RLE of the image's size", CORRECT_FILE),
    "mask_unusable": Kind("note", "masks cannot be drawn, and their objects are left out"),
    "mask_empty": Kind("note", "masks have no pixel, and their objects are left out"),
    "mask_outside": Kind("note", "masks reach out of their image"),
    "box_mask_disagree": Kind("note", "boxes disagree with their mask"),
}  # fmt: skip

# Objects with one of these problems are left out of training.
DROPS_OBJECT = {"box_not_finite", "box_no_area", "box_outside", "mask_unusable", "mask_empty"}


@dataclass
class Problems:
    """Problems that were found in one split.

    Attributes:
        counts: kind -> number of times it was found.
        examples: kind -> its first examples.
    """

    counts: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Record a problem of a kind in KINDS; the example says where it is and what was found."""
        if kind not in KINDS:
            raise KeyError(kind)
        self.counts[kind] += count
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES_KEPT:
            kept.append(example)

    def findings(self, split: str) -> list[Finding]:
        """Return one line for each kind, in the order of KINDS."""
        return [
            Finding(
                KINDS[kind].status,
                f"{split}: {self.counts[kind]} {KINDS[kind].text}, first {self.examples[kind][0]}",
                KINDS[kind].remedy,
            )
            for kind in KINDS
            if kind in self.counts
        ]

    def as_dicts(self, split: str) -> list[dict]:
        """Return one dict for each kind, for a JSON file."""
        return [
            {"split": split, "kind": kind, "status": KINDS[kind].status, "count": self.counts[kind],
             "text": KINDS[kind].text, "examples": self.examples[kind], "remedy": KINDS[kind].remedy}
            for kind in KINDS
            if kind in self.counts
        ]  # fmt: skip
