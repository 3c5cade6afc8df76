"""Reader of YOLO segmentation folders: data.yaml, and one text file of polygons for each image.

data.yaml has `names` (list, or dict from number to name), `train`, `val` and `test` (folders of images, or text files
that list images) and perhaps `path`, which those are relative to.  The labels of images/a.jpg are in labels/a.txt, one
object a line: its class, then x y of each corner as fractions of the upright image.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from insta_rtdetr.errors import DatasetError
from insta_rtdetr.image_file import UNREADABLE, reason_unreadable, upright_wh

DESCRIPTION = "data.yaml"
# Split -> the keys of data.yaml that may name it.
SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
# Corners a little outside the image are clipped; numbers above this cannot be fractions of the image.
LARGEST_FRACTION = 1.5


def read_yolo(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the labels of a YOLO segmentation folder, and the sizes of its images from the headers of the files.

    Lines with a box instead of a polygon become annotations with the segmentation [].

    Args:
        folder: the folder with data.yaml.

    Returns:
        split (train, val or test, those that data.yaml names) -> COCO's dict of images, annotations and categories.
        file_name is relative to the folder (absolute if the image lies outside); all ids begin with 1.

    Raises:
        DatasetError: data.yaml, a folder or all labels of a split are missing, or a file cannot be read as what it is.
    """
    description = _read_description(folder / DESCRIPTION)
    classes = _class_names(description, folder / DESCRIPTION)
    splits = {}
    for split, keys in SPLIT_KEYS.items():
        entries = next((description[key] for key in keys if description.get(key)), [])
        images = [image for entry in _as_list(entries) for image in _find_images(folder, description, str(entry))]
        if entries:
            splits[split] = _read_split(split, folder, images, classes)
    if not splits:
        raise DatasetError(f"{folder / DESCRIPTION} names no split, wanted train, val or test with a folder of images.")
    return splits


def _read_description(file: Path) -> dict[str, Any]:
    try:
        description = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DatasetError(f"{file} cannot be read: {' '.join(str(error).split())}.  Write it again.") from None
    if not isinstance(description, dict):
        raise DatasetError(f"{file} holds a {type(description).__name__}, wanted the keys names, train and val.")
    return description


def _class_names(description: dict[str, Any], file: Path) -> list[str]:
    names = description.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DatasetError(f"{file} has names {names!r}, wanted a list of class names, or a dict with keys 0, 1, ...")
    return [str(name) for name in names]


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _find_images(folder: Path, description: dict[str, Any], entry: str) -> list[Path]:
    """Return the images of one entry of a split.

    The entry is a folder, whose subfolders count too, or a text file that lists images.
    """
    bases = [folder / str(description["path"])] if description.get("path") else []
    # Some exports write "../train/images" for a folder that lies beside data.yaml.
    candidates = [base / name for base in [*bases, folder] for name in (entry, entry.removeprefix("../"))]
    place = next((path for path in candidates if path.exists()), None)
    if place is None:
        raise DatasetError(f"{folder / DESCRIPTION} names {entry}, but there is no {candidates[-1]}.  Correct either.")
    if place.is_dir():
        images = sorted(file for file in place.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS)
    else:
        lines = place.read_text(encoding="utf-8").splitlines()
        images = [place.parent / line.strip() for line in lines if line.strip()]
    if not images:
        raise DatasetError(f"{place} has no images, wanted files that end in {', '.join(sorted(IMAGE_ENDINGS))}.")
    return images


def _read_split(split: str, folder: Path, images: list[Path], classes: list[str]) -> dict[str, Any]:
    labels = [label_file(image) for image in images]
    if not any(file.is_file() for file in labels):
        raise DatasetError(f"{folder}: none of the {len(images)} {split} images has labels, looked for {labels[0]}.")
    # Links are not resolved, because a link to an image elsewhere counts as an image of this folder.
    root = Path(os.path.abspath(folder))
    content: dict[str, Any] = {
        "images": [], "annotations": [],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, start=1)],
    }  # fmt: skip
    for image_id, (image, labels_of_image) in enumerate(zip(images, labels, strict=True), start=1):
        height, width = upright_size(image)
        path = Path(os.path.abspath(image))
        name = path.relative_to(root) if path.is_relative_to(root) else path
        content["images"].append({"id": image_id, "file_name": name.as_posix(), "height": height, "width": width})
        for annotation in _read_labels(labels_of_image, height, width, len(classes)):
            annotation |= {"id": len(content["annotations"]) + 1, "image_id": image_id}
            content["annotations"].append(annotation)
    return content


def label_file(image: Path) -> Path:
    """Return where the labels of an image lie.

    The last folder images/ of the path is replaced by labels/; without one, the file lies beside the image.
    """
    parts = list(image.with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts)


def upright_size(image: Path) -> tuple[int, int]:
    """Read (height, width) in pixels of an image, turned as its EXIF orientation says, without reading its pixels.

    Raises:
        DatasetError: the file is missing or no image.
    """
    try:
        with Image.open(image) as opened:
            width, height = upright_wh(opened)
    except UNREADABLE as error:
        raise DatasetError(f"{image} cannot be read: {reason_unreadable(error)}.  Mend or remove it.") from None
    return height, width


def _read_labels(file: Path, height: int, width: int, num_classes: int) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        return
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            class_index, *fractions = (float(word) for word in line.split())
        except ValueError:
            raise DatasetError(f"{file}:{number} is {line[:60]!r}, wanted numbers: class x y x y ...") from None
        if class_index not in range(num_classes):
            raise DatasetError(f"{file}:{number} has class {class_index:g}, wanted 0 to {num_classes - 1}.")
        if len(fractions) < 4 or len(fractions) % 2 or not all(abs(f) <= LARGEST_FRACTION for f in fractions):
            raise DatasetError(f"{file}:{number} is {line[:60]!r}, wanted class x y x y ... with x and y from 0 to 1.")
        yield {"category_id": int(class_index) + 1, "iscrowd": 0} | _shape(fractions, height, width)


def _shape(fractions: list[float], height: int, width: int) -> dict[str, Any]:
    """Return the bbox (x, y, width, height), segmentation and area of a label, in pixels."""
    if len(fractions) == 4:  # A box instead of a polygon: x and y of its centre, width, height.
        center_x, center_y, box_width, box_height = fractions
        left, top = (center_x - box_width / 2) * width, (center_y - box_height / 2) * height
        box = [left, top, box_width * width, box_height * height]
        return {"bbox": box, "segmentation": [], "area": box[2] * box[3]}
    xs = [min(max(x, 0.0), 1.0) * width for x in fractions[::2]]
    ys = [min(max(y, 0.0), 1.0) * height for y in fractions[1::2]]
    corners = list(zip(xs, ys, strict=True))
    doubled = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True))
    return {
        "bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)],
        "segmentation": [[number for corner in corners for number in corner]],
        "area": abs(doubled) / 2,
    }
