"""Where a dataset's annotation files and images are."""

import json
from dataclasses import dataclass
from pathlib import Path

from .errors import DatasetError


@dataclass(frozen=True)
class Split:
    """One split of a dataset.

    Attributes:
        name: "train", "val", "test" or another.
        source: its annotation file, for messages.
        image_root: what file names are relative to.
        content: COCO's dict, where it is not in the file but made from another format.
    """

    name: str
    source: Path
    image_root: Path
    content: dict | None = None

    def read(self) -> dict:
        """COCO's dict.

        Raises:
            OSError, ValueError: the file cannot be read, or is not JSON.
        """
        return self.content if self.content is not None else json.loads(self.source.read_text(encoding="utf-8"))


def find_splits(folder: Path) -> list[Split]:
    """The splits of a dataset folder: in COCO's layout, or YOLO's.

    Raises:
        DatasetError: it is no folder, or in neither layout.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder.  Name one that holds a dataset.")
    files = sorted((folder / "annotations").glob("instances_*.json"))
    if files:
        names = [file.stem.removeprefix("instances_") for file in files]
        return [Split(split_name(name), file, image_folder(folder, name)) for name, file in zip(names, files)]
    raise DatasetError(f"{folder} has no annotations/instances_*.json.  Convert it (datasets/README.md).")


def split_name(name: str) -> str:
    """train2017 -> train."""
    return name.rstrip("0123456789") or name


def image_folder(folder: Path, name: str) -> Path:
    """Where the images of split `name` lie: DIR/train2017, or DIR/images/train2017."""
    return next((path for path in (folder / name, folder / "images" / name) if path.is_dir()), folder / name)
