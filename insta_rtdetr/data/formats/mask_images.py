"""Reader of objects drawn as mask images: images/a.jpg has its masks in one of these places.

    masks/a.png            each value but 0 (of a palette or 16-bit image too), or colour but black, is an object
    masks/a/*.png          each file is an object, where it is not 0
    masks/CLASS/a.png      the same two, for the objects of one class
    masks/CLASS/a/*.png
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from insta_rtdetr.data.segmentation import encode
from insta_rtdetr.errors import DatasetError
from insta_rtdetr.image_file import UNREADABLE, reason_unreadable

from .coco_content import LabelledImage, build_contents, split_folders

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
ONLY_CLASS = "object"


def read_masks(source: Path, skipped: Counter) -> dict[str, dict]:
    """Read mask images, and return split -> COCO's dict, with masks as RLE, which keeps holes and parts to the pixel.

    Args:
        source: a folder with images/ and masks/, or one with such subfolders train, val and test.
        skipped: gets the number of mask images that are left out, by reason.

    Raises:
        DatasetError: a folder is missing, a mask belongs to no image, is not of its size or cannot be read.
    """
    return build_contents({split: _read_folder(folder, skipped) for split, folder in split_folders(source).items()})


def _read_folder(folder: Path, skipped: Counter) -> list[LabelledImage]:
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise DatasetError(f"{folder} has no folder {name}, wanted images/ and masks/.")
    files = sorted(file for file in (folder / "images").iterdir() if file.suffix.lower() in IMAGE_ENDINGS)
    stems = [file.stem for file in files]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise DatasetError(f"{folder / 'images'} has several images {twice}.*, which masks cannot tell apart.")
    masks = _find_masks(folder / "masks", set(stems))
    return [_read_image(file, masks[file.stem], skipped) for file in files]


def _find_masks(folder: Path, stems: set[str]) -> dict[str, list[tuple[str, Path, bool]]]:
    """Return stem of an image -> (class, mask file, whether the file is one object) of each of its masks."""
    found: dict[str, list[tuple[str, Path, bool]]] = defaultdict(list)
    for file in sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS):
        *folders, _ = file.relative_to(folder).parts
        is_one_object = bool(folders) and folders[-1] in stems
        stem = folders.pop() if is_one_object else file.stem
        if stem not in stems or len(folders) > 1:
            raise DatasetError(f"{file} is the mask of no image, looked for {stem}.* in {folder.parent / 'images'}.")
        found[stem].append((folders[0] if folders else ONLY_CLASS, file, is_one_object))
    return found


def _read_image(file: Path, masks: list[tuple[str, Path, bool]], skipped: Counter) -> LabelledImage:
    image = LabelledImage(file)
    width, height = image.size()
    for class_name, mask_file, is_one_object in masks:
        values = _read_values(mask_file)
        if values.shape != (height, width):
            size = f"{values.shape[1]} x {values.shape[0]}"
            raise DatasetError(f"{mask_file} is {size} pixels, its image {width} x {height}.  Correct either.")
        found = [(class_name, encode(mask)) for mask in _objects(values, is_one_object)]
        if not found:
            skipped["a mask image without objects"] += 1
        image.objects += found
    return image


def _objects(values: np.ndarray, is_one_object: bool) -> Iterator[np.ndarray]:
    if is_one_object:
        values = (values != 0).astype(np.int32)
    for value in np.unique(values):
        if value != 0:
            yield values == value


def _read_values(file: Path) -> np.ndarray:
    """Read a mask image as whole numbers (H, W): indices of a palette, grey values, or each colour as one number."""
    try:
        with Image.open(file) as image:
            if image.mode in ("RGB", "RGBA", "LA", "PA", "CMYK"):
                red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.int32), -1, 0)
                return (red << 16) + (green << 8) + blue
            return np.asarray(image).astype(np.int32)
    except UNREADABLE as error:
        raise DatasetError(f"{file} cannot be read: {reason_unreadable(error)}.") from None
