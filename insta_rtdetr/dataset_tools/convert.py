"""Conversion of other formats of instance masks to COCO's layout.  The source is only read."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from insta_rtdetr.data.formats.labelme import read_labelme
from insta_rtdetr.data.formats.mask_images import read_masks
from insta_rtdetr.data.formats.via import read_via
from insta_rtdetr.errors import DatasetError

from .coco_folder import copy_file, write_coco_folder


def convert(source_format: str, source: Path, destination: Path) -> str:
    """Convert a dataset to COCO's layout.

    Args:
        source_format: name of a format in READERS.
        source: the folder to read.
        destination: a new folder, which appears when everything is in it.

    Returns:
        one line on what was converted and what was left out.

    Raises:
        DatasetError: the source is not in that format, or the destination exists.
    """
    if not source.is_dir():
        raise DatasetError(f"{source} is no folder.  Name the folder of the annotations.")
    skipped: Counter = Counter()
    splits = READERS[source_format](source, skipped)
    write_coco_folder(splits, destination, place=copy_file)
    counts = [f"{name} {len(c['images'])} images, {len(c['annotations'])} objects" for name, c in splits.items()]
    left_out = [f"left out {count} times: {reason}" for reason, count in sorted(skipped.items())]
    return "; ".join([f"{destination}: {counts[0]}", *counts[1:], *left_out])


def _read_yolo(source: Path, skipped: Counter) -> dict[str, dict]:
    # This import registers datasets with Detectron2, which the other formats need not wait for.
    from insta_rtdetr.data.formats.yolo import read_yolo

    splits = read_yolo(source)
    for content in splits.values():
        for image in content["images"]:
            image["file_name"] = str(source.absolute() / image["file_name"])
        with_masks = [annotation for annotation in content["annotations"] if annotation["segmentation"]]
        if num_boxes := len(content["annotations"]) - len(with_masks):
            skipped["a box without a polygon"] += num_boxes
        content["annotations"] = with_masks
    return splits


READERS: dict[str, Callable[[Path, Counter], dict[str, dict]]] = {
    "labelme": read_labelme,
    "yolo": _read_yolo,
    "masks": read_masks,
    "via": read_via,
}
