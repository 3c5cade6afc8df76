"""Rules for the image records of a COCO file, which the training loader and the dataset check share."""

import os
from collections.abc import Hashable


def leaves_folder(file_name: str) -> bool:
    """Return whether a file name of an annotation file points outside the image folder."""
    return os.path.isabs(file_name) or os.path.normpath(file_name).split(os.sep)[0] == ".."


def invalid_image(image: dict) -> str:
    """Return what is wrong with the fields of an image record, or an empty string."""
    label = f"image {image.get('id')!r} ({image.get('file_name')!r})"
    if image.get("id") is None or not isinstance(image["id"], Hashable):
        return f"{label} has no id"
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        return f"{label} has no file_name"
    for field in ("width", "height"):
        if type(image.get(field)) is not int or image[field] <= 0:
            return f"{label} has {field} {image.get(field)!r}, wanted a whole number of pixels"
    return ""
