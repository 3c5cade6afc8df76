"""Registering and loading datasets, with checks that name what is wrong and where to correct it."""

import json
import logging
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.structures import BoxMode

from insta_rtdetr.errors import DatasetError

from .image_records import invalid_image, leaves_folder
from .segmentation import NO_MASK, UnusableMask, clean_segmentation

logger = logging.getLogger(__name__)

ROOT_VARIABLE = "DETECTRON2_DATASETS"


def register_coco_folder(name_prefix: str, folder: str | os.PathLike) -> tuple[str, str]:
    """Register `<prefix>_train` and `<prefix>_val` for a folder laid out like COCO, without reading anything yet.

    The folder holds annotations/instances_{train,val}2017.json, train2017/ and val2017/.  Names that are registered
    already get the new dataset.

    Args:
        name_prefix: beginning of the two names.
        folder: the folder.

    Returns:
        the two names.
    """
    folder = Path(folder)
    names = []
    for split in ("train", "val"):
        name = f"{name_prefix}_{split}"
        json_file = folder / "annotations" / f"instances_{split}2017.json"
        register_coco_json(name, json_file, folder / f"{split}2017")
        names.append(name)
    return names[0], names[1]


def register_coco_json(name: str, json_file: str | os.PathLike, image_root: str | os.PathLike) -> None:
    """Register one annotation file in COCO's format under a name, even if the name is taken.  Nothing is read yet."""
    forget_dataset(name)
    DatasetCatalog.register(name, lambda: _load_coco(name, Path(json_file), Path(image_root), mend_path(name)))
    MetadataCatalog.get(name).set(json_file=str(json_file), image_root=str(image_root), evaluator_type="coco")


def forget_dataset(name: str) -> None:
    """Remove a dataset from the catalogs, if it is registered."""
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def needs_masks(cfg: CfgNode) -> bool:
    """Return whether MODEL.STAGE needs data with masks."""
    return cfg.MODEL.STAGE != "detector"


def load_datasets(
    names: list[str] | tuple[str, ...], num_classes: int, filter_empty: bool = False, key: str = "DATASETS.TRAIN",
    max_missing: int = 0, with_masks: bool = True,
) -> list[dict]:  # fmt: skip
    """Load datasets and join them; each is checked by `check_dataset`, which has the other arguments too.

    Args:
        names: names of the datasets, as registered.
        filter_empty: whether images without objects (crowds do not count) are left out.

    Raises:
        DatasetError: a dataset does not pass the check, or no image is left.
    """
    dicts = [item for name in names for item in check_dataset(name, num_classes, key, max_missing, with_masks)]
    if filter_empty:
        dicts = filter_images_with_only_crowd_annotations(dicts)
    # Dicts without the key are of images that nobody has labelled, which are predicted and not scored.
    if not any(annotation.get("iscrowd", 0) == 0 for item in dicts for annotation in item.get("annotations", [{}])):
        raise DatasetError(
            f"{', '.join(names)}: no image has an object that is neither a crowd nor left out: there is nothing to "
            f"learn or to measure.  Label its images, or set {key} to another dataset."
        )
    return dicts


def check_dataset(
    name: str, num_classes: int, key: str = "DATASETS.TRAIN", max_missing: int = 0, with_masks: bool = True
) -> list[dict]:
    """Load a dataset and check it.

    Objects whose box has no area or lies outside the image, and those without a mask, are dropped and counted in one
    line of the log.

    Args:
        name: name of the dataset, as registered.
        num_classes: number of classes of the model, MODEL.NUM_CLASSES.
        key: the config key that named the dataset, for the messages.
        max_missing: number of image files that may be missing, DATALOADER.MAX_UNREADABLE_IMAGES.
        with_masks: if False, objects without a mask stay, without "segmentation".

    Returns:
        Detectron2's dataset dicts.

    Raises:
        DatasetError: the name, the folder, the annotation file or images are missing; the file is not COCO's format; an
            annotation has an unknown image or category, or its class is outside the model's; masks are needed, and no
            object has one.
    """
    if name not in DatasetCatalog.list():
        raise DatasetError(f"{key} names {name!r}, which is not registered.  Register it, or change {key}.")
    metadata = MetadataCatalog.get(name)
    if metadata.get("evaluator_type") == "coco" and metadata.get("json_file"):
        files = Path(metadata.json_file), Path(metadata.image_root)
        dicts = _load_coco(name, *files, mend_path(name, key), with_masks)
    else:
        dicts = DatasetCatalog.get(name)
    _check_classes(name, dicts, num_classes)
    _check_images(name, dicts, max_missing, mend_path(name, key))
    return dicts


def mend_path(name: str, key: str = "DATASETS.TRAIN") -> str:
    """Return advice for a dataset whose files are not where its name says."""
    root = os.getenv(ROOT_VARIABLE)
    state = f"now {root}" if root else "now unset, which means ./datasets"
    return f"Set the environment variable {ROOT_VARIABLE} ({state}), or {key} (now with {name})."


def _load_coco(name: str, json_file: Path, image_root: Path, advice: str, with_masks: bool = True) -> list[dict]:
    """Read a COCO file as Detectron2's load_coco_json does, in one pass, with checks that name the wrong annotation."""
    if not json_file.is_file():
        raise DatasetError(f"{name}: annotation file {json_file} not found.  {advice}")
    if not image_root.is_dir():
        raise DatasetError(f"{name}: image folder {image_root} not found.  {advice}")
    content = read_coco(json_file)
    try:
        check_category_ids(content["categories"], json_file)
        class_of = _set_classes(name, content["categories"])
        records: dict[Any, dict] = {}
        files: set[str] = set()
        for image in sorted(content["images"], key=lambda image: image["id"]):
            _check_record(image, records, files, json_file)
            file_name = os.path.join(image_root, image["file_name"])
            size = {"height": image["height"], "width": image["width"]}
            records[image["id"]] = {"file_name": file_name, **size, "image_id": image["id"], "annotations": []}
        check_annotation_ids(content["annotations"], json_file)
        dropped: dict[str, list] = {}
        for annotation in content["annotations"]:
            reason = _add(annotation, records, class_of, name, json_file, with_masks)
            dropped.setdefault(reason, []).append(annotation.get("id"))
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{json_file} is not in COCO's format: {type(error).__name__} {error} in its images, annotations or "
            "categories.  Correct the file."
        ) from None
    if set(dropped) == {NO_MASK}:
        raise no_masks(json_file, len(dropped[NO_MASK]))
    dropped.pop("", None)
    if dropped:
        counts = ", ".join(f"{len(ids)} {why} (first annotation {ids[0]})" for why, ids in sorted(dropped.items()))
        logger.warning(f"{json_file}: dropped {sum(map(len, dropped.values()))} objects: {counts}")
    return list(records.values())


def no_masks(origin: str | os.PathLike, num_objects: int) -> DatasetError:
    """Make the error that masks are needed but no object has one."""
    return DatasetError(
        f"{origin}: none of its {num_objects} objects has a mask.  Add masks, or set MODEL.STAGE detector: boxes alone."
    )


def read_coco(json_file: Path) -> dict[str, Any]:
    """Read a COCO annotation file.

    Raises:
        DatasetError: it is not JSON, or not a dict with the three lists.
    """
    try:
        content = json.loads(json_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{json_file} is not JSON: {error}.  Write it again.") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{json_file} holds a {type(content).__name__}, wanted COCO's dict with images, annotations "
                           "and categories.")  # fmt: skip
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            found = ", ".join(map(str, content)) or "nothing"
            raise DatasetError(f"{json_file} holds {found}, wanted COCO's lists images, annotations and categories.")
    return content


def _set_classes(name: str, categories: list[dict]) -> dict[int, int]:
    """Set the dataset's class names, and return COCO's category id -> class index, in the order of the ids."""
    categories = sorted(categories, key=lambda category: category["id"])
    class_of = {category["id"]: index for index, category in enumerate(categories)}
    metadata = MetadataCatalog.get(name)
    # Set metadata cannot be changed, and Detectron2 has set the class names and colours of coco_2017 already.
    if not metadata.get("thing_classes"):
        metadata.thing_classes = [category["name"] for category in categories]
        metadata.thing_dataset_id_to_contiguous_id = class_of
    return metadata.thing_dataset_id_to_contiguous_id


def _check_record(image: dict, records: dict[Any, dict], files: set[str], json_file: Path) -> None:
    """Check an image record against those before it, whose file names are `files`, and add its file name there."""
    invalid = invalid_image(image)
    if not invalid and image["id"] in records:
        invalid = f"image id {image['id']} is used twice"
    if not invalid and image["file_name"] in files:
        invalid = f"file_name {image['file_name']} is listed twice"
    if not invalid and leaves_folder(image["file_name"]):
        invalid = f"file_name {image['file_name']} leaves the image folder"
    if invalid:
        raise DatasetError(f"{json_file}: {invalid}.  Correct the file.")
    files.add(image["file_name"])


def check_annotation_ids(annotations: list[dict], origin: str | os.PathLike) -> None:
    """Check that annotation ids are unique, because COCO's evaluation identifies annotations by their ids.

    Raises:
        DatasetError: an id is used twice, and names the file.
    """
    counts = Counter(annotation.get("id") for annotation in annotations)
    counts.pop(None, None)
    (annotation_id, count), *_ = counts.most_common(1) or [(0, 0)]
    if count > 1:
        raise DatasetError(f"{origin}: annotation id {annotation_id} is used {count} times.  Correct the file.")


def check_category_ids(categories: list[dict], origin: str | os.PathLike) -> None:
    """Check that category ids are unique, and warn of names that are not.

    Raises:
        DatasetError: an id is used twice, and names the file.
    """
    (category_id, count), *_ = Counter(category["id"] for category in categories).most_common(1) or [(0, 0)]
    if count > 1:
        raise DatasetError(f"{origin}: category id {category_id} is used {count} times.  Correct the file.")
    (name, count), *_ = Counter(category["name"] for category in categories).most_common(1) or [("", 0)]
    if count > 1:
        logger.warning(f"{origin}: {count} categories have the name {name!r}")


def _add(
    annotation: dict, records: dict[Any, dict], class_of: dict[int, int], name: str, json_file: Path, with_masks: bool
) -> str:
    """Add an annotation to the record of its image.

    Returns:
        an empty string, or the reason why the annotation is dropped.
    """
    record = records.get(annotation["image_id"])
    origin = f"{json_file}: annotation {annotation.get('id')}"
    if record is None:
        raise DatasetError(f"{origin} is of image {annotation['image_id']}, which the file does not list.  Correct it.")
    if annotation["category_id"] not in class_of:
        # Detectron2's own datasets have the classes of their metadata, whatever the file lists.
        raise DatasetError(
            f"{origin} is of category {annotation['category_id']}, which is none of {name}'s {len(class_of)} "
            "categories.  Correct the file, or register it under a name of its own."
        )
    if reason := _reject_box(annotation, record, origin):
        return reason
    entry = {"bbox": list(annotation["bbox"]), "bbox_mode": BoxMode.XYWH_ABS}
    try:
        entry["segmentation"] = clean_segmentation(annotation.get("segmentation"), record["height"], record["width"])
    except UnusableMask as error:
        if with_masks:
            return str(error)
    except (OverflowError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise DatasetError(
            f"{origin} has a segmentation that is neither polygons nor RLE: {error}.  Correct the file."
        ) from None
    entry |= {"category_id": class_of[annotation["category_id"]], "iscrowd": annotation.get("iscrowd", 0)}
    record["annotations"].append(entry | {"id": annotation.get("id")})
    return ""


def _reject_box(annotation: dict, record: dict, origin: str) -> str:
    """Return the reason why an annotation is dropped for its box, or an empty string.

    Raises:
        DatasetError: it has no box of four numbers.
    """
    if "bbox" not in annotation:
        raise DatasetError(f"{origin} has no bbox.  Correct the file.")
    box = annotation["bbox"] or (0, 0, 0, 0)
    if len(box) != 4 or not all(isinstance(number, (int, float)) for number in box):
        raise DatasetError(f"{origin} has the bbox {box!r}, wanted [x, y, width, height].  Correct the file.")
    left, top, width, height = box
    if not all(map(math.isfinite, box)):  # JSON files can hold NaN and infinity.
        return "with a box that is not finite"
    if not (width > 0 and height > 0):
        return "with a box of no area"
    if not (left < record["width"] and top < record["height"] and left + width > 0 and top + height > 0):
        return "with a box outside the image"
    return ""


def _check_classes(name: str, dicts: list[dict], num_classes: int) -> None:
    thing_classes = MetadataCatalog.get(name).get("thing_classes", [])
    for item in dicts:
        for annotation in item.get("annotations", []):
            index = annotation["category_id"]
            if not 0 <= index < num_classes:
                label = f" ({thing_classes[index]})" if 0 <= index < len(thing_classes) else ""
                raise DatasetError(
                    f"{name}: annotation {annotation.get('id')} of {item['file_name']} has class {index}{label}, but "
                    f"the model has classes 0 to {num_classes - 1}.  Set MODEL.NUM_CLASSES to "
                    f"{len(thing_classes) or index + 1}, or correct the dataset."
                )


def _check_images(name: str, dicts: list[dict], max_missing: int, advice: str) -> None:
    """Check that all image files exist.

    Each folder is listed once, which is faster than to ask for each file.
    """
    if not dicts:
        raise DatasetError(f"{name} lists no image.  {advice}")
    present: dict[str, set[str]] = {}
    missing = []
    for item in dicts:
        folder, base = os.path.split(item["file_name"])
        if folder not in present:
            present[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if base not in present[folder]:
            missing.append(item["file_name"])
    if len(missing) > max_missing:
        raise DatasetError(
            f"{name}: {len(missing)} of {len(dicts)} images are missing, first {missing[0]}.  "
            f"Copy them there.  {advice}"
        )
