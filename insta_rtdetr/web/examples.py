"""Example images, which are held in memory under their names."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from insta_rtdetr.data.toy_scenes import CATEGORIES, draw_scene
from insta_rtdetr.predict.inputs import find_files

# Class -> name of a photograph in scikit-image's wheel that shows it.
PHOTOGRAPHS = {"coin": "coins", "person": "astronaut", "cat": "chelsea", "cup": "coffee"}
# Seeds that give toy scenes with many objects.
SCENE_SEEDS = (3, 4, 8)
SCENE_SIZE = 320


@dataclass(frozen=True)
class Example:
    """Example image: the content of its file, and the media type."""

    content: bytes
    media_type: str


def examples_for(class_names: tuple[str, ...], folder: Path | None) -> dict[str, Example]:
    """Return file name -> image, for the examples that the page offers.

    Args:
        class_names: classes of the model; without a folder, the images are those that show one of these.
        folder: folder of the user's own images, or None.

    Raises:
        UserError: the folder does not exist or has no images.
    """
    if folder is not None:
        return {file.name: Example(file.read_bytes(), _media_type(file)) for file in find_files(str(folder))}
    images = _photographs(class_names)
    if set(CATEGORIES) & set(class_names):
        for number, seed in enumerate(SCENE_SEEDS, start=1):
            images[f"scene_{number}"] = draw_scene(np.random.default_rng(seed), SCENE_SIZE)[0]
    return {f"{name}.jpg": Example(_jpeg(image), "image/jpeg") for name, image in images.items()}


def _photographs(class_names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the photographs that show one of the classes; none if scikit-image is not installed.

    scikit-image is not required, because apart from this only the tests need it.
    """
    try:
        from skimage import data
    except ImportError:
        return {}
    return {file: getattr(data, file)() for name, file in PHOTOGRAPHS.items() if name in class_names}


def _jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(file, "JPEG", quality=95)
    return file.getvalue()


def _media_type(file: Path) -> str:
    Image.init()
    return Image.MIME.get(Image.EXTENSION.get(file.suffix.lower(), ""), "application/octet-stream")
