"""Reader of projects and annotation files of the VGG Image Annotator (VIA), versions 1 and 2.

Polygons, rectangles, circles and ellipses become objects; lines and points have no area and are skipped.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from insta_rtdetr.errors import DatasetError

from .coco_content import LabelledImage, build_contents, ellipse, rectangle, split_folders

# If regions have several attributes, the first one of these holds the class.
CLASS_ATTRIBUTES = ("class", "label", "name", "type", "category")
CLASS_WITHOUT_ATTRIBUTE = "object"


def read_via(source: Path, skipped: Counter) -> dict[str, dict]:
    """Read VIA's annotations, and return split -> COCO's dict.

    Args:
        source: a folder with one JSON file of VIA and its images, or one with such subfolders train, val and test.
        skipped: gets the number of regions that are left out, by reason.

    Raises:
        DatasetError: there is no such file; it cannot be read; an image is missing; the class's attribute is unclear.
    """
    return build_contents({split: _read_folder(folder, skipped) for split, folder in split_folders(source).items()})


def _read_folder(folder: Path, skipped: Counter) -> list[LabelledImage]:
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        raise DatasetError(f"{folder} has {len(files)} JSON files, wanted the one that VIA wrote.")
    try:
        content = json.loads(files[0].read_text(encoding="utf-8"))
        content = content.get("_via_img_metadata", content)
        entries = [(entry["filename"], _regions(entry)) for entry in content.values()]
        attribute = _class_attribute([region for _, regions in entries for region in regions], files[0])
        return [
            LabelledImage(folder / name, list(_objects(regions, attribute, skipped))) for name, regions in entries
        ]  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{files[0]} is not a file of VIA 1 or 2: {type(error).__name__} {error}.") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{files[0]} cannot be read: {error}.") from None


def _regions(entry: dict) -> list[dict]:
    regions = entry["regions"]
    return list(regions.values()) if isinstance(regions, dict) else regions  # Version 1 has a dict from numbers.


def _class_attribute(regions: list[dict], file: Path) -> str | None:
    """Return the attribute that names the class; None if the regions have no attribute."""
    names = sorted({name for region in regions for name in region.get("region_attributes") or {}})
    if len(names) <= 1:
        return names[0] if names else None
    chosen = next((name for name in CLASS_ATTRIBUTES if name in names), None)
    if chosen is None:
        raise DatasetError(
            f"{file} has the attributes {', '.join(names)}, wanted one of {', '.join(CLASS_ATTRIBUTES)} for the "
            "class.  Rename the right one."
        )
    return chosen


def _objects(regions: list[dict], attribute: str | None, skipped: Counter) -> Iterator[tuple[str, Any]]:
    for region in regions:
        polygon = _polygon(region["shape_attributes"], skipped)
        if polygon:
            yield _class_name(region, attribute), [polygon]


def _class_name(region: dict, attribute: str | None) -> str:
    value = (region.get("region_attributes") or {}).get(attribute)
    if isinstance(value, dict):  # A checkbox has a dict such as {"cat": true}.
        value = next((name for name, is_set in value.items() if is_set), None)
    return str(value).strip() if value not in (None, "") else CLASS_WITHOUT_ATTRIBUTE


def _polygon(shape: dict, skipped: Counter) -> list[float]:
    """Return the outline of a region, which is empty if the region has no area."""
    kind = shape["name"]
    if kind == "polygon":
        corners = list(zip(shape["all_points_x"], shape["all_points_y"]))
        if len(corners) >= 3:
            return [float(number) for corner in corners for number in corner]
        skipped["a polygon of fewer than three points"] += 1
        return []
    if kind == "rect":
        left, top = shape["x"], shape["y"]
        return rectangle(left, top, left + shape["width"], top + shape["height"])
    if kind == "circle":
        return ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"])
    if kind == "ellipse":
        return ellipse(shape["cx"], shape["cy"], shape["rx"], shape["ry"], shape.get("theta", 0.0))
    skipped[f"VIA's {kind} has no area"] += 1
    return []
