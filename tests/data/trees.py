"""Very small datasets in the formats that the real ones have on the disk: two objects of two classes an image."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from PIL import Image

HEIGHT, WIDTH = 64, 96
# (left, top, width, height) of an image's objects, the second moved a little in each image; Cityscapes' evaluation
# leaves objects below 100 pixels out.
FIRST, SECOND = (4, 6, 20, 30), (40, 20, 30, 24)


def objects(index: int) -> list[tuple[int, int, int, int]]:
    """The rectangles of an image: one of the first class, one of the second."""
    left, top, width, height = SECOND
    return [FIRST, (left + index, top, width, height)]


def write_image(file: Path, index: int) -> None:
    """A noisy image with bright rectangles."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(index).integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for left, top, width, height in objects(index):
        pixels[top : top + height, left : left + width] += 180
    Image.fromarray(pixels).save(file)


def outline(rectangle: tuple[int, int, int, int]) -> list[float]:
    left, top, width, height = rectangle
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def coco_content(category_ids: tuple[int, int], categories: list[dict], first_id: int = 1, count: int = 2) -> dict:
    """COCO's dict of 0.jpg, 1.jpg, ... whose annotations are numbered from first_id."""
    content = {"images": [], "annotations": [], "categories": categories}
    for index in range(count):
        content["images"].append({"id": index, "file_name": f"{index}.jpg", "height": HEIGHT, "width": WIDTH})
        for category_id, rectangle in zip(category_ids, objects(index)):
            content["annotations"].append({
                "id": first_id + len(content["annotations"]), "image_id": index, "category_id": category_id,
                "bbox": list(rectangle), "area": rectangle[2] * rectangle[3], "iscrowd": 0,
                "segmentation": [outline(rectangle)],
            })  # fmt: skip
    return content


def write_json(file: Path, content: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def write_coco(folder: Path) -> Path:
    """COCO 2017: people and cats among the 80 categories."""
    categories = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]
    for split in ("train2017", "val2017"):
        write_json(folder / "annotations" / f"instances_{split}.json", coco_content((1, 17), categories))
        for index in range(2):
            write_image(folder / split / f"{index}.jpg", index)
    return folder


def write_cityscapes(folder: Path) -> Path:
    """leftImg8bit and gtFine of one city each for train and val: a car and a person on the road."""
    for split, city in (("train", "aachen"), ("val", "munster")):
        for index in range(2):
            stem = f"{city}_00000{index}_000019"
            write_image(folder / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", index)
            truth = folder / "gtFine" / split / city
            truth.mkdir(parents=True, exist_ok=True)
            instance_ids = np.full((HEIGHT, WIDTH), 7, dtype=np.uint16)  # road
            instance_ids[:4] = 26  # cars that cannot be told apart
            for class_id, (left, top, width, height) in zip((26, 24), objects(index)):
                instance_ids[top : top + height, left : left + width] = class_id * 1000
            Image.fromarray(instance_ids).save(truth / f"{stem}_gtFine_instanceIds.png")
            label_ids = np.where(instance_ids >= 1000, instance_ids // 1000, instance_ids).astype(np.uint8)
            Image.fromarray(label_ids).save(truth / f"{stem}_gtFine_labelIds.png")
            write_json(truth / f"{stem}_gtFine_polygons.json", {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": []})
    return folder


def write_ade20k(folder: Path) -> Path:
    """ADEChallengeData2016 with annotations_instance: a bed (1) and a flag (100)."""
    for split in ("training", "validation"):
        for index in range(2):
            name = f"ADE_{split}_{index:08d}"
            write_image(folder / "images" / split / f"{name}.jpg", index)
            pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
            for number, (class_number, (left, top, width, height)) in enumerate(zip((1, 100), objects(index)), start=1):
                pixels[top : top + height, left : left + width, :2] = class_number, number
            file = folder / "annotations_instance" / split / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    return folder


def write_roboflow(folder: Path) -> Path:
    """Roboflow's export: a heading as category 0, annotations from 0, and without "iscrowd"."""
    categories = [{"id": 0, "name": "things", "supercategory": "none"}]
    categories += [{"id": i, "name": name, "supercategory": "things"} for i, name in ((1, "cup"), (2, "pen"))]
    for split in ("train", "valid", "test"):
        content = coco_content((1, 2), categories, first_id=0)
        for annotation in content["annotations"]:
            del annotation["iscrowd"]
        write_json(folder / split / "_annotations.coco.json", content)
        for index in range(2):
            write_image(folder / split / f"{index}.jpg", index)
    return folder


def write_one_file(folder: Path) -> Path:
    """One COCO file with its folder of images."""
    categories = [{"id": 7, "name": "cup"}, {"id": 9, "name": "pen"}]
    write_json(folder / "labels.json", coco_content((7, 9), categories))
    for index in range(2):
        write_image(folder / "images" / f"{index}.jpg", index)
    return folder / "labels.json"


def write_yolo(folder: Path) -> Path:
    """data.yaml, images/{train,val} and labels/{train,val}."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {"train": "images/train", "val": "images/val", "nc": 2, "names": {0: "cup", 1: "pen"}}
    (folder / "data.yaml").write_text(yaml.safe_dump(description))
    for split in ("train", "val"):
        (folder / "labels" / split).mkdir(parents=True)
        for index in range(2):
            write_image(folder / "images" / split / f"{index}.jpg", index)
            lines = "\n".join(yolo_lines(index))
            (folder / "labels" / split / f"{index}.txt").write_text(lines + "\n")
    return folder


def yolo_lines(index: int) -> Iterator[str]:
    for class_index, rectangle in enumerate(objects(index)):
        corners = np.array(outline(rectangle)).reshape(-1, 2) / (WIDTH, HEIGHT)
        yield f"{class_index} " + " ".join(f"{number:.6f}" for number in corners.ravel())
