"""Recognising the layout of a user's dataset, and reading it.

| layout   | what it is recognised by                                                            |
|----------|-------------------------------------------------------------------------------------|
| YOLO     | data.yaml, see yolo.py                                                              |
| Roboflow | train/_annotations.coco.json, valid/, test/ (RF-DETR's too), images beside the file |
| COCO     | annotations/instances_{train,val,test}*.json, images in folders named after them    |
| file     | one COCO file, alone in its folder or given itself, images beside it or nearby      |
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insta_rtdetr.data.formats.yolo import DESCRIPTION, read_yolo
from insta_rtdetr.errors import DatasetError

from .datasets import read_coco

ROBOFLOW_FILE = "_annotations.coco.json"
ROBOFLOW_FOLDERS = {"train": "train", "val": "valid", "test": "test"}
# Name of the split of a dataset that has only one.
WHOLE = "all"


@dataclass(frozen=True)
class Split:
    """One split of a dataset.

    Attributes:
        content: COCO's dict of images, annotations and categories.
        image_root: folder that the images' file_name is relative to.
        json_file: COCO file that the content was read from; None for other formats.
    """

    content: dict[str, Any]
    image_root: Path
    json_file: Path | None = None


@dataclass(frozen=True)
class FoundDataset:
    """A user's dataset, as `find_dataset` recognised it.

    Attributes:
        name: name of its folder or file, in which all but letters, digits and underscores is replaced.
        layout: name of the layout, see the table of this module.
        classes: class names, in the order of the model's classes.
        splits: "train", "val" and "test" (those that exist), or "all" -> the split.
    """

    name: str
    layout: str
    classes: list[str]
    splits: dict[str, Split]

    def registered_name(self, split: str) -> str:
        """Return the name of a split in DATASETS.TRAIN and DATASETS.TEST."""
        return f"{self.name}_{split}"

    def summary(self) -> str:
        """Return one line with the layout, the classes, and the size of each split."""
        shown = ", ".join(self.classes[:8]) + (", ..." if len(self.classes) > 8 else "")
        sizes = [
            f"{self.registered_name(split)} {counted(len(part.content['images']), 'image')}, "
            f"{counted(len(part.content['annotations']), 'object')}"
            for split, part in self.splits.items()
        ]
        if WHOLE in self.splits:
            sizes.append("no split of its own for validation: evaluated on what it is trained on")
        classes = counted(len(self.classes), "class", "classes")
        return f"dataset {self.name} ({self.layout} layout), {classes} ({shown}): " + "; ".join(sizes)


def counted(number: float, one: str, several: str = "") -> str:
    """Return a number with its noun, such as "1 image" or "1,200 images"."""
    shown = f"{number:,}" if isinstance(number, int) else f"{number:.3g}"
    return f"{shown} {one if number == 1 else several or one + 's'}"


def find_dataset(path: Path) -> FoundDataset:
    """Recognise a dataset and read it.

    Args:
        path: the dataset's folder, its data.yaml, or a COCO file.

    Raises:
        DatasetError: there is no such path, its layout is none of these, or a file in it is wrong.
    """
    path = path.expanduser()
    if not path.exists():
        raise DatasetError(f"--dataset {path} not found.  Give a folder, or a COCO file.")
    layout, splits = _read(path)
    name = re.sub(r"\W+", "_", path.resolve().stem)
    return FoundDataset(name, layout, _class_names(path, splits), splits)


def _read(path: Path) -> tuple[str, dict[str, Split]]:
    folder = path.parent if path.name in (DESCRIPTION, ROBOFLOW_FILE) else path
    if path.is_file() and path.name != DESCRIPTION:
        return "file", {WHOLE: _read_file(path)}
    if (folder / DESCRIPTION).is_file():
        return "YOLO", {split: _rebased(content, folder) for split, content in read_yolo(folder).items()}
    if splits := _roboflow_splits(folder):
        return "Roboflow", splits
    if splits := _coco_splits(folder):
        return "COCO", splits
    files = sorted(folder.glob("*.json"))
    if len(files) == 1:
        return "file", {WHOLE: _read_file(files[0])}
    raise DatasetError(
        f"{path} has no known layout: no {DESCRIPTION}, no train/{ROBOFLOW_FILE}, no annotations/"
        f"instances_train*.json, and {len(files)} .json files, wanted one.  See datasets/README.md."
    )


def _rebased(content: dict[str, Any], folder: Path) -> Split:
    """Make the file names relative to the folder that holds all images.

    The images of a YOLO dataset may lie outside the folder of data.yaml.
    """
    files = [os.path.join(os.path.abspath(folder), image["file_name"]) for image in content["images"]]
    root = os.path.commonpath([os.path.abspath(folder), *map(os.path.dirname, files)])
    for image, file in zip(content["images"], files):
        image["file_name"] = Path(file).relative_to(root).as_posix()
    return Split(content, Path(root))


def _roboflow_splits(folder: Path) -> dict[str, Split]:
    files = {split: folder / name / ROBOFLOW_FILE for split, name in ROBOFLOW_FOLDERS.items()}
    return {
        split: Split(read_coco(file), file.parent, file) for split, file in files.items() if file.is_file()
    }


def _coco_splits(folder: Path) -> dict[str, Split]:
    splits = {}
    for split in ("train", "val", "test"):
        files = sorted((folder / "annotations").glob(f"instances_{split}*.json"))
        if len(files) > 1:
            found = ", ".join(file.name for file in files)
            raise DatasetError(f"{folder / 'annotations'} has {found}: which one is {split}?  Leave one there.")
        if files:
            splits[split] = _read_file(files[0])
    return splits


def _read_file(file: Path) -> Split:
    content = read_coco(file)
    name, above = file.stem.removeprefix("instances_"), file.parent.parent
    candidates = [
        above / name, above / "images" / name, file.parent / name, file.parent / "images", above / "images",
        file.parent, above,
    ]  # fmt: skip
    first = next((str(image.get("file_name", "")) for image in content["images"] if isinstance(image, dict)), "")
    image_root = next((folder for folder in candidates if (folder / first).is_file()), None)
    # Without the first image in any of them, take a folder that exists: the check of the images says what is missing.
    image_root = image_root or next((folder for folder in candidates if folder.is_dir()), file.parent)
    return Split(content, image_root, file)


def _class_names(path: Path, splits: dict[str, Split]) -> list[str]:
    """Return the names of the categories of all splits, those of the first split first, in the order of their ids."""
    try:
        names = dict.fromkeys(
            str(category["name"])
            for split in splits.values()
            for category in sorted(split.content["categories"], key=lambda category: category["id"])
            if not _is_heading(category, splits)
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: a category is not in COCO's format: {type(error).__name__} {error}.") from None
    if not names:
        raise DatasetError(f"{path} has no classes.  Write the categories into its annotations.")
    return list(names)


def _is_heading(category: dict[str, Any], splits: dict[str, Split]) -> bool:
    """Return whether a category is the title that Roboflow's exports begin with.

    Such a category is the supercategory of others, and no annotation has it.
    """
    others = [other for split in splits.values() for other in split.content["categories"]]
    if not any(other.get("supercategory") == category["name"] != other["name"] for other in others):
        return False
    annotations = (item for split in splits.values() for item in split.content["annotations"])
    return all(item.get("category_id") != category["id"] for item in annotations)
