"""Writing a dataset in COCO's layout: annotations/instances_<split>.json, and the images in <split>/."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from insta_rtdetr.atomic import new_folder
from insta_rtdetr.errors import DatasetError


def write_coco_folder(splits: dict[str, dict], destination: Path, place: Callable[[str, Path], None]) -> None:
    """Write all splits to a new folder, which appears when everything is in it.

    Args:
        splits: name -> COCO's dict, with absolute file names.
        destination: the new folder.
        place: function that puts an image file at a path: copy_file or link_file.

    Raises:
        DatasetError: the destination exists and is not empty; an image is missing.
    """
    with new_folder(destination) as folder:
        (folder / "annotations").mkdir()
        for split, content in splits.items():
            names = short_names([image["file_name"] for image in content["images"]])
            (folder / split).mkdir()
            for image in tqdm(content["images"], desc=split, unit="image", disable=None):
                target = folder / split / names[image["file_name"]]
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    place(image["file_name"], target)
                except FileNotFoundError:
                    raise DatasetError(f"{image['file_name']} is missing.  Put it there, or remove it.") from None
            images = [image | {"file_name": names[image["file_name"]]} for image in content["images"]]
            file = folder / "annotations" / f"instances_{split}.json"
            file.write_text(json.dumps(content | {"images": images}), encoding="utf-8")


def short_names(files: list[str]) -> dict[str, str]:
    """Return the name of each file, given by its absolute path, in the new folder.

    It is the file's own name if all of these differ, else its path below the folder that holds all files.
    """
    if len({os.path.basename(file) for file in files}) == len(files):
        return {file: os.path.basename(file) for file in files}
    shared = os.path.commonpath([os.path.dirname(file) for file in files])
    return {file: str(PurePosixPath(Path(file).relative_to(shared))) for file in files}


def copy_file(source: str, target: Path) -> None:
    """Copy an image."""
    shutil.copyfile(source, target)


def link_file(source: str, target: Path) -> None:
    """Make a hard link to an image, which takes no disk space, or a copy if the file system has no hard links."""
    try:
        os.link(os.path.realpath(source), target)
    except FileNotFoundError:
        raise
    except OSError:
        copy_file(source, target)
