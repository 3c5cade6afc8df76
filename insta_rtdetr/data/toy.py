"""A small COCO-format dataset that is drawn, not downloaded: overlapping coins, cells, triangles and squares.

    python -m insta_rtdetr.data.toy OUT [--train N --val N --size S --seed S]

The folder has COCO's layout: OUT/annotations/instances_{train,val}2017.json, OUT/train2017 and OUT/val2017.
OUT/toy.json records the arguments.  The same arguments give the same bytes.
"""

import argparse
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from PIL import Image
from pycocotools import mask as mask_util
from scipy import ndimage

from insta_rtdetr.data.toy_scenes import CATEGORIES, SceneObject, draw_scene

# This number is raised when the drawing changes, so that an older folder is not taken for a new one.
VERSION = 2
MANIFEST_NAME = "toy.json"

logger = logging.getLogger(__name__)


def make_toy_dataset(
    folder: str | os.PathLike, num_train: int = 400, num_val: int = 60, size: int = 320, seed: int = 0
) -> Path:
    """Write the toy dataset to `folder`, or reuse it if it is there already, made with the same arguments.

    The folder appears when everything is written, so a killed run leaves nothing that looks complete.

    Args:
        folder: the folder to write.
        num_train: number of training images.
        num_val: number of validation images.
        size: typical image side in pixels; sides vary between 0.8 and 1.2 of it.
        seed: seed of all randomness.

    Returns:
        the folder.

    Raises:
        FileExistsError: the folder holds something else; it is left as it is.
        ValueError: a count is below 1 or the size below 32 pixels.
    """
    if min(num_train, num_val) < 1 or size < 32:
        raise ValueError(f"want at least 1 image a split and size >= 32, got {num_train=}, {num_val=}, {size=}")
    folder = Path(folder).absolute()
    manifest = {"version": VERSION, "train": num_train, "val": num_val, "size": size, "seed": seed}
    if _is_there(folder, manifest):
        logger.info("Toy dataset %s is already there", folder)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.unfinished-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp makes folders that only their owner can read.
        for split_index, split in enumerate(("train", "val")):
            _write_split(unfinished, split, manifest[split], size, [seed, split_index])
        (unfinished / MANIFEST_NAME).write_text(json.dumps(manifest))
        _move_into_place(unfinished, folder, manifest)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    logger.info("Wrote toy dataset %s: %d train and %d val images", folder, num_train, num_val)
    return folder


def _is_there(folder: Path, manifest: dict[str, int]) -> bool:
    """Return whether the folder is this very dataset, complete; False if there is nothing yet.

    Raises:
        FileExistsError: it holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    advice = "Name another folder, or remove this one."
    try:
        found = json.loads((folder / MANIFEST_NAME).read_text())
    except (OSError, ValueError):
        raise FileExistsError(f"{folder} exists and is not a toy dataset. {advice}") from None
    if found != manifest:
        raise FileExistsError(f"{folder} is a toy dataset made with {found}, wanted {manifest}. {advice}")
    for split in ("train", "val"):
        num_images = len(list((folder / f"{split}2017").glob("*.jpg")))
        if num_images != manifest[split] or not _annotation_file(folder, split).is_file():
            found = f"{num_images} of {manifest[split]} {split} images"
            raise FileExistsError(f"{folder} has lost files, it holds {found}. {advice}")
    return True


def _move_into_place(unfinished: Path, folder: Path, manifest: dict[str, int]) -> None:
    try:
        os.rename(unfinished, folder)
    except OSError:
        # Another process may have made the same dataset meanwhile; anything else there is an error.
        if not _is_there(folder, manifest):
            raise


def _annotation_file(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}2017.json"


def _write_split(folder: Path, split: str, num_images: int, size: int, seed: list[int]) -> None:
    image_folder = folder / f"{split}2017"
    image_folder.mkdir()
    coco: dict[str, Any] = {
        "info": {"description": f"insta_rtdetr toy dataset, {split}"},
        "images": [],
        "annotations": [],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(CATEGORIES)],
    }
    for image_id in range(1, num_images + 1):
        rng = np.random.default_rng([*seed, image_id])
        image, objects = draw_scene(rng, size)
        height, width = image.shape[:2]
        file_name = f"{image_id:012d}.jpg"
        Image.fromarray(image).save(image_folder / file_name, quality=92)
        coco["images"].append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for scene_object in objects:
            annotation = {"id": len(coco["annotations"]) + 1, "image_id": image_id}
            annotation.update(_annotate(scene_object, as_polygons=bool(rng.random() < 0.5)))
            coco["annotations"].append(annotation)
    _annotation_file(folder, split).parent.mkdir(exist_ok=True)
    _annotation_file(folder, split).write_text(json.dumps(coco))


def _annotate(scene_object: SceneObject, as_polygons: bool) -> dict[str, Any]:
    """Return COCO's fields of one object.

    Crowds get uncompressed RLE, as in COCO; masks with holes never get polygons.
    """
    mask = scene_object.mask
    ys, xs = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    left, top = int(xs[0]), int(ys[0])
    box_mask = mask[top : ys[-1] + 1, left : xs[-1] + 1]
    segmentation: Any = None
    if scene_object.is_crowd:
        segmentation = _uncompressed_rle(mask)
    elif as_polygons:
        segmentation = _polygons(box_mask, left, top)
    if segmentation is None:
        rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
        segmentation = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
    return {
        "category_id": scene_object.category + 1,
        "bbox": [left, top, box_mask.shape[1], box_mask.shape[0]],
        "area": int(box_mask.sum()),
        "iscrowd": int(scene_object.is_crowd),
        "segmentation": segmentation,
    }


def _polygons(box_mask: np.ndarray, left: int, top: int) -> list[list[float]] | None:
    """Return the outlines of a mask in COCO's coordinates, where pixel (0, 0) spans [0, 1].

    Returns:
        the polygons; None if the mask has holes or tiny parts, which get RLE instead.
    """
    padded = np.pad(box_mask, 1)
    if not (ndimage.binary_fill_holes(padded) == padded).all():
        return None
    polygons = []
    for contour in contourpy.contour_generator(z=padded.astype(np.float32)).lines(0.5):
        # The padding shifts by one pixel, and contourpy's integers are pixel centres.  Together that is half a pixel.
        xs_ys = contour[:-1] - 0.5 + (left, top)
        if len(xs_ys) < 6:
            return None
        polygons.append([round(float(value), 1) for value in xs_ys.ravel()])
    return polygons


def _uncompressed_rle(mask: np.ndarray) -> dict[str, list[int]]:
    """Return COCO's run lengths, column by column, beginning with the zeros (0 if the first pixel is set)."""
    flat = np.concatenate([[0], mask.ravel(order="F").astype(np.int8), [-1]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges]))
    return {"size": list(mask.shape), "counts": [int(count) for count in counts]}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m insta_rtdetr.data.toy", description=__doc__.splitlines()[0])
    parser.add_argument("out", metavar="OUT", help="folder to write; must not exist, be empty or be the same dataset")
    parser.add_argument("--train", type=int, default=400, metavar="N", help="training images (default 400)")
    parser.add_argument("--val", type=int, default=60, metavar="N", help="validation images (default 60)")
    parser.add_argument("--size", type=int, default=320, metavar="S", help="typical side in pixels (default 320)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (default 0)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        make_toy_dataset(args.out, args.train, args.val, args.size, args.seed)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
