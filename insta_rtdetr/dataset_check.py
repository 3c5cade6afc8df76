"""Check a data set in COCO layout, without Detectron2: the part of the doctor that looks at annotation files."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGES_OPENED = 20  # per annotation file; opening all of COCO takes minutes


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    status: str  # "ok", "note" or "FAIL"
    text: str
    remedy: str = ""  # the command or step that mends a FAIL

    def __str__(self) -> str:
        return f"{self.status:<5} {self.text}" + (f". {self.remedy}" if self.remedy else "")


def ok(text: str) -> Finding:
    """Something that works."""
    return Finding("ok", text)


def note(text: str) -> Finding:
    """Something worth knowing that is no failure."""
    return Finding("note", text)


def fail(text: str, remedy: str) -> Finding:
    """Something that must be mended, and how."""
    return Finding("FAIL", text.rstrip("."), remedy)


def one_line(error: BaseException) -> str:
    """The kind and the message of an exception, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def check_dataset_folder(folder: Path) -> Iterator[Finding]:
    """annotations/instances_{train,val}*.json, each with a folder of images named after it."""
    for split in ("train", "val"):
        files = sorted((folder / "annotations").glob(f"instances_{split}*.json"))
        if not files:
            wanted = folder / "annotations" / f"instances_{split}*.json"
            yield fail(f"{wanted} is missing", "Put the COCO annotations there (datasets/README.md)")
        for file in files:
            yield from check_annotation_file(file, image_folder(folder, file.stem.removeprefix("instances_")))


def image_folder(folder: Path, name: str) -> Path:
    """Where the images of split `name` lie: DIR/train2017, or DIR/images/train2017."""
    return next((path for path in (folder / name, folder / "images" / name) if path.is_dir()), folder / name)


def check_annotation_file(file: Path, images_folder: Path) -> Iterator[Finding]:
    """One COCO file: readable, consistent, with masks, its images present and of the size it says."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        images, annotations, categories = (content[key] for key in ("images", "annotations", "categories"))
        problem = broken_reference(images, annotations, categories)
        names = [image["file_name"] for image in images]
    except OSError as error:
        yield fail(f"{file} cannot be read: {one_line(error)}", f"Run: ls -l {file.parent}")
        return
    except (ValueError, KeyError, TypeError) as error:
        text = f"{file} is no COCO file ({one_line(error)}), wanted images, annotations and categories"
        yield fail(text, f"Write it again, then try: {sys.executable} -m json.tool {file}")
        return
    if problem:
        yield fail(f"{file}: {problem}", "Correct the file")
    missing = [name for name in names if not (images_folder / name).is_file()]
    if missing:
        text = f"{images_folder}: {len(missing)} of {len(names)} images are missing, first {missing[0]}"
        yield fail(text, f"Copy them to {images_folder}")
    wrong = [] if missing else list(wrong_sizes(images, images_folder))
    if wrong:
        yield fail(f"{images_folder}: {wrong[0]} ({len(wrong)} such of the first {IMAGES_OPENED})", f"Correct {file}")
    if not problem and not missing and not wrong:
        yield ok(f"{file}: {len(images)} images, {len(annotations)} objects, {len(categories)} categories")


def broken_reference(images: list[dict], annotations: list[dict], categories: list[dict]) -> str:
    """The first kind of defect of the annotations that training would stumble over; empty if there is none."""
    image_ids, category_ids = {image["id"] for image in images}, {category["id"] for category in categories}
    defects = {
        "point to an image that is not listed": [a for a in annotations if a["image_id"] not in image_ids],
        "have a category that is not listed": [a for a in annotations if a["category_id"] not in category_ids],
        "have no segmentation, which masks are made of": [a for a in annotations if not a.get("segmentation")],
    }
    for text, found in defects.items():
        if found:
            return f"{len(found)} of {len(annotations)} annotations {text}, first id {found[0].get('id')}"
    return "" if images else "it lists no image"


def wrong_sizes(images: Sequence[dict], folder: Path) -> Iterator[str]:
    """Images among the first few that do not open, or whose size differs from the annotation file's."""
    from PIL import Image

    for record in images[:IMAGES_OPENED]:
        wanted_wh = (record.get("width"), record.get("height"))
        try:
            with Image.open(folder / record["file_name"]) as image:
                if image.size != wanted_wh:
                    yield f"{record['file_name']} is {image.size}, the annotation file says {wanted_wh} (width, height)"
        except OSError as error:
            yield f"{record['file_name']} does not open: {one_line(error)}"
