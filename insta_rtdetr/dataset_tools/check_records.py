"""Check of an annotation file's lists without its images: fields, ids and references."""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from insta_rtdetr.data.image_records import invalid_image, leaves_folder

from .check_image import ImageTask
from .problems import Problems


def check_content(content: Any) -> str:
    """Return why the content of a JSON file is not COCO's, or an empty string if it is."""
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}, wanted a dict with images, annotations and categories"
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            return f"{part} is no list, it holds {', '.join(map(str, content)) or 'nothing'}"
        wrong = next((item for item in content[part] if not isinstance(item, dict)), None)
        if wrong is not None:
            return f"{part} holds {str(wrong)[:60]}, wanted dicts"
    if not all(isinstance(category.get("id"), Hashable) and "name" in category and "id" in category
               for category in content["categories"]):  # fmt: skip
        return "a category lacks id or name"
    return ""


def check_categories(categories: Sequence[dict], problems: Problems) -> dict[Any, str]:
    """Check the categories, and return category id -> name."""
    for kind, field in (("category_id_duplicate", "id"), ("category_name_duplicate", "name")):
        for value in _repeated([category[field] for category in categories]):
            problems.add(kind, repr(value))
    ids = [category["id"] for category in categories]
    whole = sorted({value for value in ids if isinstance(value, int)})
    if whole and whole[-1] - whole[0] + 1 > len(whole):
        skipped = next(value for value in range(whole[0], whole[-1]) if value not in set(whole))
        problems.add("category_gap", str(skipped), whole[-1] - whole[0] + 1 - len(whole))
    return {category["id"]: str(category["name"]) for category in categories}


def image_tasks(content: dict, image_root: Path, problems: Problems) -> list[ImageTask]:
    """Check the lists of images and annotations.

    Returns:
        the images whose files can be checked, each with those of its annotations that can be checked.
    """
    tasks: dict[Any, ImageTask] = {}
    names: set[str] = set()
    num_listed = Counter(image["id"] for image in content["images"] if isinstance(image.get("id"), Hashable))
    for image in content["images"]:
        invalid = invalid_image(image)
        if invalid:
            problems.add("image_field_invalid", invalid)
            continue
        name = image["file_name"]
        if image["id"] in tasks:
            problems.add("image_id_duplicate", f"{image['id']} ({name})")
        if name in names:
            problems.add("file_duplicate", name)
        names.add(name)
        if leaves_folder(name):
            problems.add("file_outside", name)
            continue
        if image["id"] not in tasks:
            file = os.path.join(image_root, name)
            tasks[image["id"]] = ImageTask(file, name, image["width"], image["height"], [])
    _assign(content, tasks, num_listed, problems)
    return list(tasks.values())


def _assign(content: dict, tasks: dict[Any, ImageTask], num_listed: Counter, problems: Problems) -> None:
    """Check the annotations, and give each image its own."""
    category_ids = {category["id"] for category in content["categories"]}
    seen: set = set()
    for annotation in content["annotations"]:
        invalid = next((f for f in ("id", "image_id", "category_id", "bbox") if annotation.get(f) is None), None)
        origin = f"annotation {annotation.get('id')!r}"
        if invalid:
            problems.add("annotation_field_invalid", f"{origin} has no {invalid}")
            continue
        if not all(isinstance(annotation[f], Hashable) for f in ("id", "image_id", "category_id")):
            problems.add("annotation_field_invalid", f"{origin} has a list or dict for an id")
            continue
        if annotation["id"] in seen:
            problems.add("annotation_id_duplicate", str(annotation["id"]))
        seen.add(annotation["id"])
        is_known = annotation["image_id"] in num_listed
        if not is_known:
            problems.add("image_unknown", f"{origin} is of image {annotation['image_id']!r}")
        if annotation["category_id"] not in category_ids:
            problems.add("category_unknown", f"{origin} is of category {annotation['category_id']!r}")
        elif not _is_box(annotation["bbox"]):
            problems.add("box_invalid", f"{origin} has {str(annotation['bbox'])[:60]}")
        elif annotation["image_id"] in tasks:
            tasks[annotation["image_id"]].annotations.append(annotation)


def _is_box(box: Any) -> bool:
    """Return whether a value is a list of four numbers; NaN and infinity are numbers here, and reported later."""
    return isinstance(box, list) and len(box) == 4 and all(type(number) in (int, float) for number in box)


def _repeated(values: list) -> list:
    counts: defaultdict = defaultdict(int)
    for value in values:
        counts[value] += 1
    return [value for value, count in counts.items() if count > 1]
