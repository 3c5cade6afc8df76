#!/usr/bin/env python3
"""Measure prediction in tiles on nuclei with known truth; docs/tiling_and_video.md has the figures.

    python tools/measure_tiling.py --data path/to/nuclei

Validation images of 256 pixels a side, each turned differently whenever it comes again, are put together to one image
of 4096 pixels.  It is predicted in tiles, and compared with what the tiles show on their own and with each image
predicted alone.  Then the largest validation images are predicted whole and in tiles, and the memory is measured that
images of several sizes need.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np
import pycocotools.mask as coco_mask
import torch
from detectron2.structures import Instances
from PIL import Image
from pycocotools.coco import COCO
from tabulate import tabulate

from insta_rtdetr import create_model
from insta_rtdetr.evaluation.coco import score_results
from insta_rtdetr.layers.mask_rle import encode_crop
from insta_rtdetr.layers.rle_masks import RleMasks
from insta_rtdetr.predict import Model
from insta_rtdetr.views.overlaps import areas_of, intersections, rles_of
from insta_rtdetr.views.seams import TileMerger
from insta_rtdetr.views.tiling import Tiling, find_in_tiles

MODEL = "insta_rtdetr_MNV2_D3_320"
CELL, SIDE = 256, 4096
LOWEST_SCORE, SHOWN_SCORE = 0.05, 0.5
AP_NAMES = ("AP", "AP50", "AP75", "AP small", "AP medium")


def main() -> int:
    """Write the tables to stdout and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of the nuclei: val/ and annotations/")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = create_model(MODEL)
    model.masks_as_rle = True
    truth = json.loads((args.data / "annotations" / "instances_val.json").read_text())
    say(compare_mosaic(model, truth, args.data / "val"))
    say(compare_large(model, truth, args.data / "val"))
    say(measure_memory(model, truth, args.data / "val"))
    return 0


def say(table: str) -> None:
    """Write a table at once."""
    sys.stdout.write(table + "\n\n")
    sys.stdout.flush()


def compare_mosaic(model: Model, truth: dict, folder: Path) -> str:
    """Return the table of the mosaic: images alone, tiles alone, and tiles merged."""
    mosaic, masks = make_mosaic(truth, folder)
    dataset = coco_of([(mosaic.shape[:2], masks)])
    by_tile: list[Instances] = []

    def find(images: list[np.ndarray]) -> list[Instances]:
        found = model.find(images, LOWEST_SCORE)
        by_tile.extend(found)
        return found

    # Tiles without overlap are the images that the mosaic was made of.
    alone = find_in_tiles(find, mosaic, Tiling(CELL, 0.0))
    by_tile.clear()
    merged = find_in_tiles(find, mosaic, Tiling(CELL))
    best = from_best_tile(by_tile, Tiling(CELL), mosaic.shape[:2])
    rows = [
        [name, *average_precision(dataset, [found]), len(shown(found)), count_pairs(shown(found))]
        for name, found in (
            ("stretched to the network's size", predict(model, mosaic, 0)), ("images alone", alone),
            ("each place by one tile", best), ("tiles merged", merged),
        )
    ]  # fmt: skip
    return tabulate(rows, [f"{SIDE} pixels, {len(masks)} nuclei", *AP_NAMES, "objects", "pairs that overlap"])


def make_mosaic(truth: dict, folder: Path) -> tuple[np.ndarray, list[dict]]:
    """Return the mosaic, uint8 (SIDE, SIDE, 3), and the masks of its nuclei."""
    images = [image for image in truth["images"] if (image["height"], image["width"]) == (CELL, CELL)]
    mosaic = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    masks = []
    for number in range((SIDE // CELL) ** 2):
        round_number, index = divmod(number, len(images))
        top, left = (CELL * place for place in divmod(number, SIDE // CELL))
        pixels, of_image = read(images[index], truth, folder)
        mosaic[top : top + CELL, left : left + CELL] = turned(pixels, round_number)
        crops = [torch.from_numpy(turned(mask, round_number)) for mask in of_image]
        masks += [encode_crop(crop, top, left, (SIDE, SIDE)) for crop in crops]
    return mosaic, masks


def turned(pixels: np.ndarray, number: int) -> np.ndarray:
    """Return one of the eight ways to turn and mirror an image or a mask."""
    pixels = pixels[:, ::-1] if number & 4 else pixels
    return np.ascontiguousarray(np.rot90(pixels, number & 3))


def read(image: dict, truth: dict, folder: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the pixels of an image and the masks of its nuclei, bool (H, W)."""
    pixels = np.asarray(Image.open(folder / image["file_name"]).convert("RGB"))
    annotations = [one for one in truth["annotations"] if one["image_id"] == image["id"]]
    return pixels, [coco_mask.decode(one["segmentation"]).astype(bool) for one in annotations]


def from_best_tile(by_tile: list[Instances], tiling: Tiling, size_hw: tuple[int, int]) -> Instances:
    """Return the objects of all tiles, but only from that tile in which their centre is farthest from a border."""
    tiles = tiling.tiles(size_hw)
    # A border of the image is no border here.
    far = np.array([[-(tile.left == 0), -(tile.top == 0), tile.right == SIDE, tile.bottom == SIDE] for tile in tiles])
    borders = np.array([[tile.left, tile.top, tile.right, tile.bottom] for tile in tiles]) + SIDE * far
    found = []
    for number, (tile, instances) in enumerate(zip(tiles, by_tile)):
        alone = TileMerger(size_hw)
        alone.add((tile.top, tile.left), instances)
        in_image = alone.merged()
        x, y, width, height = np.array([coco_mask.toBbox(rle) for rle in rles_of(in_image)]).reshape(-1, 4).T
        centres = np.stack([x + width / 2, y + height / 2], axis=1)[:, None]
        depth = np.minimum(centres - borders[:, :2], borders[:, 2:] - centres).min(axis=2)
        found.append(in_image[torch.from_numpy(depth.argmax(axis=1) == number)])
    return joined(found)


def joined(found: list[Instances]) -> Instances:
    """Return the objects of several `Instances` of one image."""
    instances = Instances(found[0].image_size)
    instances.pred_masks = RleMasks([rle for one in found for rle in one.pred_masks.rles], found[0].image_size)
    instances.scores = torch.cat([one.scores for one in found])
    return instances


def compare_large(model: Model, truth: dict, folder: Path) -> str:
    """Return the table of the largest images: stretched to the network's size, and in tiles of several sizes."""
    images = [read(image, truth, folder) for image in truth["images"] if image["height"] >= 2 * CELL]
    sizes = [(pixels.shape[:2], [encode_crop(torch.from_numpy(mask), 0, 0, mask.shape) for mask in masks])
             for pixels, masks in images]  # fmt: skip
    dataset = coco_of(sizes)
    rows = []
    for tile in (0, 448, 384, 320, 256):
        found = [predict(model, pixels, tile) for pixels, _ in images]
        rows.append([f"tiles of {tile}" if tile else "whole", *average_precision(dataset, found)])
    return tabulate(rows, [f"{len(images)} images", *AP_NAMES])


def predict(model: Model, pixels: np.ndarray, tile: int) -> Instances:
    """Return what is found in an image, in tiles unless `tile` is 0."""
    (result,) = model.predict(pixels, LOWEST_SCORE, tile=tile)
    return result.instances


def coco_of(images: list[tuple[tuple[int, int], list[dict]]]) -> COCO:
    """Return a dataset, given the size and the masks of each image."""
    numbered = [(number, rle) for number, (_, rles) in enumerate(images, start=1) for rle in rles]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i, "height": size[0], "width": size[1]} for i, (size, _) in enumerate(images, start=1)],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [
            {"id": i, "image_id": number, "category_id": 1, "iscrowd": 0, "segmentation": rle,
             "area": float(coco_mask.area(rle)), "bbox": coco_mask.toBbox(rle).tolist()}
            for i, (number, rle) in enumerate(numbered, start=1)
        ],
    }  # fmt: skip
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def average_precision(dataset: COCO, found: list[Instances]) -> Iterator[str]:
    """Yield AP_NAMES of the objects in each image of a dataset, in percent."""
    results = [
        {"image_id": number, "category_id": 1, "score": score, "segmentation": rle}
        for number, one in enumerate(found, start=1) for rle, score in zip(rles_of(one), one.scores.tolist())
    ]  # fmt: skip
    with redirect_stdout(io.StringIO()):
        evaluation = score_results(dataset, results, "segm", max_dets_per_image=[1, 10, 10**6])
    yield from (f"{100 * value:.1f}" if value >= 0 else "-" for value in evaluation.stats[:5])


def shown(found: Instances) -> list[dict]:
    """Return the masks of the objects that a user would see."""
    return [rle for rle, score in zip(rles_of(found), found.scores.tolist()) if score >= SHOWN_SCORE]


def count_pairs(rles: list[dict]) -> int:
    """Return the number of pairs of masks of which one covers more than half of the other one."""
    areas, count = areas_of(rles), 0
    for start in range(0, len(rles), CELL):
        some = slice(start, start + CELL)
        smaller = np.minimum(areas[some, None], areas)
        count += np.triu(intersections(rles[some], rles) > smaller / 2, start + 1).sum()
    return int(count)


def measure_memory(model: Model, truth: dict, folder: Path) -> str:
    """Return the table of the memory that the prediction of image files in tiles of 1024 pixels needs."""
    mosaic, _ = make_mosaic(truth, folder)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for repeats in (1, 2, 4):
            file = Path(temporary) / f"{repeats}.png"
            Image.fromarray(np.tile(mosaic, (repeats, repeats, 1))).save(file, compress_level=1)
            before = memory("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # The high-water mark begins anew.
            (result,) = model.predict(file, SHOWN_SCORE, tile=1024)
            rows.append([f"{SIDE * repeats}", len(result), memory("VmHWM") - before])
    return tabulate(rows, ["side", "objects", "MB more at the highest"])


def memory(name: str) -> int:
    """Return a value of this process in /proc/self/status, in MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    sys.exit(main())
