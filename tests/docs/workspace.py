"""A folder with what the documentation takes for granted: the repository at hand, and data of the user's."""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from skimage import data

from insta_rtdetr.data.toy import make_toy_dataset
from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.predict.model import build_module
from insta_rtdetr.zoo import find_published
from insta_rtdetr.zoo.cache import cached_path
from tests.data import trees

from .blocks import ROOT

# What a checkout has, and what a command in it may read.
LINKED = ("configs", "demo", "docs", "insta_rtdetr", "tests", "tools", "pyproject.toml", "requirements.txt", "setup.py",
          "README.md", "LICENSE", "train_net.py")  # fmt: skip
SHORTENED = Path(__file__).with_name("shortened")
ITERATIONS = 2


def make_workspace(folder: Path) -> Path:
    """Fill a folder and return it."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "datasets").mkdir()
    for script in (ROOT / "datasets").glob("*.py"):
        (folder / "datasets" / script.name).symlink_to(script)
    write_photos(folder)
    write_datasets(folder / "path/to")
    return folder


def write_photos(folder: Path) -> None:
    """Write photo.jpg, a folder of photos, and a video."""
    (folder / "photos").mkdir()
    for name, image in (("coffee", data.coffee()), ("cat", data.chelsea())):
        Image.fromarray(image).save(folder / f"photos/{name}.jpg")
    Image.fromarray(data.coffee()).save(folder / "photo.jpg")
    frame = np.repeat(data.coins()[:, :, None], 3, axis=2)
    video = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5.0, frame.shape[1::-1])
    for shift in range(0, 20, 4):
        video.write(np.roll(frame, shift, axis=1))
    video.release()


def write_datasets(folder: Path) -> None:
    """Write the datasets that the pages call path/to/..."""
    make_toy_dataset(folder / "data", 8, 3, size=96)
    for name in ("boxes", "nuclei"):
        (folder / name).symlink_to("data")
    trees.write_yolo(folder / "yolo")
    write_labelme(folder / "labelme")
    write_via(folder / "via")
    write_masks(folder / "masks")


def write_labelme(folder: Path) -> None:
    """Write two images with a LabelMe file each."""
    for index in range(2):
        trees.write_image(folder / f"{index}.jpg", index)
        shapes = [
            {"label": label, "points": [[left, top], [left + width, top + height]], "shape_type": "rectangle"}
            for label, (left, top, width, height) in zip(("cup", "pen"), trees.objects(index))
        ]
        size = {"imageHeight": trees.HEIGHT, "imageWidth": trees.WIDTH}
        trees.write_json(folder / f"{index}.json", {"shapes": shapes, "imagePath": f"{index}.jpg", **size})


def write_via(folder: Path) -> None:
    """Write two images, and the one file of VIA."""
    content = {}
    for index in range(2):
        trees.write_image(folder / f"{index}.jpg", index)
        regions = [
            {"shape_attributes": {"name": "rect", "x": left, "y": top, "width": width, "height": height},
             "region_attributes": {"class": label}}
            for label, (left, top, width, height) in zip(("cup", "pen"), trees.objects(index))
        ]  # fmt: skip
        content[f"{index}.jpg"] = {"filename": f"{index}.jpg", "size": -1, "regions": regions, "file_attributes": {}}
    (folder / "via.json").write_text(json.dumps(content))


def write_masks(folder: Path) -> None:
    """Write images/ and masks/, each value of a mask being an object."""
    (folder / "masks").mkdir(parents=True)
    for index in range(2):
        trees.write_image(folder / f"images/{index}.jpg", index)
        mask = np.zeros((trees.HEIGHT, trees.WIDTH), np.uint8)
        for value, (left, top, width, height) in enumerate(trees.objects(index), start=1):
            mask[top : top + height, left : left + width] = value
        Image.fromarray(mask).save(folder / f"masks/{index}.png")


def write_weights(cache: Path) -> None:
    """Put random weights where the ones of a ResNet-18-vd would be downloaded to."""
    module = build_module(setup_cfg("insta_rtdetr_R18vd_D3_640", ["MODEL.DEVICE", "cpu"]))
    backbone = {name: value for name, value in module.state_dict().items() if name.startswith("backbone.")}
    target = cached_path(find_published("resnet18vd"))
    assert target.is_relative_to(cache)
    target.parent.mkdir(parents=True)
    torch.save({"model": backbone}, target)


def environment() -> dict[str, str]:
    """Return the environment of the commands: this Python, this checkout, short trainings, and no windows."""
    return os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(SHORTENED), str(ROOT)]),
        "DOCS_ITERATIONS": str(ITERATIONS),
        "MPLBACKEND": "Agg",
        "COLUMNS": "120",
    }
