"""Conversion of ADE20K's instances (Places Challenge 2017), 100 of SceneParse150's classes, to COCO files.

The dataset as it is distributed has images/{training,validation}/*.jpg and, in a separate archive,
annotations_instance/{training,validation}/*.png.  In these, red is the class from 1 to 100 and green the number of the
object in its image; 0 means neither.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from insta_rtdetr.atomic import write_text
from insta_rtdetr.data.formats.yolo import upright_size
from insta_rtdetr.errors import DatasetError

FOLDER = "ADEChallengeData2016"
SPLITS = {"train": "training", "val": "validation"}

# SceneParse150's number (from 1) and name of each class, in the order of the numbers 1 to 100 of annotations_instance.
_NUMBERS_AND_NAMES = """
8 bed, 9 windowpane, 11 cabinet, 13 person, 15 door, 16 table, 19 curtain, 20 chair, 21 car, 23 painting,
24 sofa, 25 shelf, 28 mirror, 31 armchair, 32 seat, 33 fence, 34 desk, 36 wardrobe, 37 lamp, 38 bathtub,
39 railing, 40 cushion, 42 box, 43 column, 44 signboard, 45 chest of drawers, 46 counter, 48 sink,
50 fireplace, 51 refrigerator, 54 stairs, 56 case, 57 pool table, 58 pillow, 59 screen door, 63 bookcase,
65 coffee table, 66 toilet, 67 flower, 68 book, 70 bench, 71 countertop, 72 stove, 73 palm, 74 kitchen island,
75 computer, 76 swivel chair, 77 boat, 79 arcade machine, 81 bus, 82 towel, 83 light, 84 truck, 86 chandelier,
87 awning, 88 streetlight, 89 booth, 90 television receiver, 91 airplane, 93 apparel, 94 pole, 96 bannister,
98 ottoman, 99 bottle, 103 van, 104 ship, 105 fountain, 108 washer, 109 plaything, 111 stool, 112 barrel,
113 basket, 116 bag, 117 minibike, 119 oven, 120 ball, 121 food, 122 step, 124 trade name, 125 microwave,
126 pot, 127 animal, 128 bicycle, 130 dishwasher, 131 screen, 133 sculpture, 134 hood, 135 sconce, 136 vase,
137 traffic light, 138 tray, 139 ashcan, 140 fan, 143 plate, 144 monitor, 145 bulletin board, 147 radiator,
148 glass, 149 clock, 150 flag
"""
# Category id (SceneParse150's number, counted from 0 as in panoptic annotations) -> name.
CLASS_NAMES = {
    int(number) - 1: " ".join(words) for number, *words in (item.split() for item in _NUMBERS_AND_NAMES.split(","))
}


def json_file(folder: Path, split: str) -> Path:
    """Return where the COCO file of a split ("train" or "val") lies in ADE20K's folder."""
    return folder / f"ade20k_instance_{split}.json"


def prepare(folder: Path, progress: Callable[[Iterable], Iterable] = iter) -> list[Path]:
    """Write the COCO files of both splits, each whole or not at all.

    Args:
        folder: the folder ADEChallengeData2016.
        progress: wraps the images that are looped over, for example in a progress bar.

    Returns:
        the files that were written.

    Raises:
        DatasetError: a folder or a file is missing, or a file is not as the dataset has them.
    """
    written = []
    for split, subfolder in SPLITS.items():
        images = sorted((folder / "images" / subfolder).glob("*.jpg"))
        if not images:
            raise DatasetError(f"{folder / 'images' / subfolder} has no .jpg files, wanted ADE20K's images.")
        content: dict[str, Any] = {"images": [], "annotations": []}
        content["categories"] = [{"id": category_id, "name": name} for category_id, name in CLASS_NAMES.items()]
        for image in progress(images):
            height, width = upright_size(image)
            record = {"id": image.stem, "file_name": image.name, "height": height, "width": width}
            content["images"].append(record)
            labels = folder / "annotations_instance" / subfolder / f"{image.stem}.png"
            for annotation in _read_objects(labels, height, width):
                annotation |= {"id": len(content["annotations"]) + 1, "image_id": image.stem}
                content["annotations"].append(annotation)
        file = json_file(folder, split)
        write_text(file, json.dumps(content))
        written.append(file)
    return written


def _read_objects(file: Path, height: int, width: int) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        raise DatasetError(f"{file} not found.  Unpack annotations_instance.tar of the Places Challenge 2017 there.")
    pixels = np.asarray(Image.open(file))
    if pixels.shape[:2] != (height, width) or pixels.ndim != 3:
        raise DatasetError(f"{file} has the shape {pixels.shape}, wanted {(height, width, 3)}.")
    category_ids = list(CLASS_NAMES)
    # Each pair of class and object number becomes one number, so that `np.unique` finds the objects.
    pairs = pixels[..., 0].astype(int) * 256 + pixels[..., 1]
    for pair in np.unique(pairs[pixels[..., 1] > 0]):
        class_number = int(pair) // 256
        if not 1 <= class_number <= len(category_ids):
            raise DatasetError(f"{file} has the class {class_number}, wanted 1 to {len(category_ids)}.")
        rle = mask_util.encode(np.asfortranarray(pairs == pair, dtype=np.uint8))
        yield {
            "category_id": category_ids[class_number - 1], "iscrowd": 0, "area": int(mask_util.area(rle)),
            "bbox": mask_util.toBbox(rle).tolist(), "segmentation": rle | {"counts": rle["counts"].decode()},
        }  # fmt: skip
