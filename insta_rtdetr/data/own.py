"""Registration of a user's dataset, with files that both Detectron2's loader and its evaluator take.

COCO's evaluation needs more than training does: one list of categories for all splits, annotation ids from 1 (an
object with the id 0 counts as missed), "iscrowd" and "area", and a mask for every object.  Files that have all that
are used as they are.  For the others, and for other formats, a complete copy is made in the folder for temporary files.
"""

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from insta_rtdetr.atomic import write_text
from insta_rtdetr.errors import DatasetError

from .datasets import check_annotation_ids, check_category_ids, no_masks, register_coco_json
from .layouts import FoundDataset, Split

logger = logging.getLogger(__name__)


def register_found(found: FoundDataset, needs_masks: bool = True) -> dict[str, str]:
    """Register every split of a dataset; a name that is taken gets the new dataset.

    Args:
        found: the dataset.
        needs_masks: whether objects without a mask are left out.

    Returns:
        split -> registered name.

    Raises:
        DatasetError: an annotation is not in COCO's format.
    """
    names = {}
    for split, part in found.splits.items():
        names[split] = found.registered_name(split)
        origin = part.json_file or part.image_root
        check_category_ids(part.content["categories"], origin)
        check_annotation_ids(part.content["annotations"], origin)
        json_file = part.json_file
        if json_file is None or not is_complete(part.content, found.classes, needs_masks):
            json_file = write_copy(names[split], complete(part, found.classes, needs_masks))
        register_coco_json(names[split], json_file, part.image_root)
        ids = sorted(category["id"] for category in part.content["categories"])
        if json_file != part.json_file:
            ids = range(1, len(found.classes) + 1)
        MetadataCatalog.get(names[split]).set(
            thing_classes=found.classes,
            thing_dataset_id_to_contiguous_id={category_id: index for index, category_id in enumerate(ids)},
        )
    return names


def is_complete(content: dict[str, Any], classes: list[str], needs_masks: bool) -> bool:
    """Return whether Detectron2's evaluator takes the content of a COCO file as it is."""
    categories = sorted(content["categories"], key=lambda category: category["id"])
    if [category["name"] for category in categories] != classes:
        return False
    annotations = content["annotations"]
    ids = {item.get("id") for item in annotations}
    has_all = all("iscrowd" in item and "area" in item for item in annotations)
    has_all = has_all and not (needs_masks and any(not item.get("segmentation") for item in annotations))
    return has_all and len(ids) == len(annotations) and not ids & {0, None}


def complete(part: Split, classes: list[str], needs_masks: bool) -> dict[str, Any]:
    """Return COCO's dict with categories 1, 2, ... for the classes, and annotations with all that the evaluator reads.

    A missing "area" becomes that of the box.  Where masks are needed, objects without one are left out, with a line in
    the log.

    Raises:
        DatasetError: an annotation has an unknown category or no bbox; or masks are needed, and no object has one.
    """
    number_of = {name: number for number, name in enumerate(classes, start=1)}
    category_ids = {item["id"]: number_of.get(item["name"]) for item in part.content["categories"]}
    kept = [item for item in part.content["annotations"] if item.get("segmentation") or not needs_masks]
    dropped = [item.get("id") for item in part.content["annotations"] if needs_masks and not item.get("segmentation")]
    origin = part.json_file or part.image_root
    if part.content["annotations"] and not kept:
        raise no_masks(origin, len(part.content["annotations"]))
    if dropped:
        logger.warning(f"{origin}: dropped {len(dropped)} objects without a mask (first annotation {dropped[0]})")
    annotations = []
    for number, annotation in enumerate(kept, start=1):
        category_id = category_ids.get(annotation.get("category_id"))
        if category_id is None:
            wrong = annotation.get("category_id")
            raise DatasetError(
                f"{origin}: annotation {annotation.get('id')} is of category {wrong}, which the file does not list.  "
                "Correct it."
            )
        box = annotation.get("bbox") or [0, 0, 0, 0]
        defaults = {"iscrowd": 0, "area": box[2] * box[3]} if len(box) == 4 else {"iscrowd": 0}
        annotations.append(defaults | annotation | {"id": number, "category_id": category_id, "bbox": box})
    categories = [{"id": number, "name": name} for name, number in number_of.items()]
    return {"images": part.content["images"], "annotations": annotations, "categories": categories}


def write_copy(name: str, content: dict[str, Any]) -> Path:
    """Write a COCO file named after its content, so that every process makes and finds the same file."""
    text = json.dumps(content)
    folder = Path(tempfile.gettempdir()) / f"insta_rtdetr-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not file.is_file():
        write_text(file, text, several_writers=True)
    return file
