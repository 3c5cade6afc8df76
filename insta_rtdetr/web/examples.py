"""Example images, which are held in memory under their names."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from insta_rtdetr.data.toy_scenes import CATEGORIES, draw_scene
from insta_rtdetr.predict.inputs import find_files

# Class -> name of a photograph in scikit-image's wheel that shows it.
PHOTOGRAPHS = {
    "coin": "coins", "person": "astronaut", "cat": "chelsea", "cup": "coffee", "motorcycle": "stereo_motorcycle",
}  # fmt: skip
# Classes -> beginning of the names of photographs that lie here, which show them: validation images of the 2018 Data
# Science Bowl, BBBC038, which are in the public domain (CC0).
OWN_PHOTOGRAPHS = {"nucleus": "nuclei", "nuclei": "nuclei"}
FOLDER = Path(__file__).parent / "photographs"
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
        class_names: classes of the model; without a folder, the images are those that show one of these, or all if
            none does.
        folder: folder of the user's own images, or None.

    Raises:
        UserError: the folder does not exist or has no images.
    """
    if folder is not None:
        return {file.name: _read(file) for file in find_files(str(folder))}
    return _that_show(class_names) or _that_show((*PHOTOGRAPHS, *OWN_PHOTOGRAPHS, *CATEGORIES))


def _that_show(class_names: tuple[str, ...]) -> dict[str, Example]:
    """Return the examples that show one of the classes."""
    images = _photographs(class_names)
    if set(CATEGORIES) & set(class_names):
        for number, seed in enumerate(SCENE_SEEDS, start=1):
            images[f"scene_{number}"] = draw_scene(np.random.default_rng(seed), SCENE_SIZE)[0]
    examples = {f"{name}.jpg": Example(_jpeg(image), "image/jpeg") for name, image in images.items()}
    starts = {start for name, start in OWN_PHOTOGRAPHS.items() if name in class_names}
    own = sorted(file for start in starts for file in FOLDER.glob(f"{start}_*.jpg"))
    return examples | {file.name: _read(file) for file in own}


def _photographs(class_names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return scikit-image's photographs that show one of the classes; none if it is not installed.

    scikit-image is not required, because apart from this only the tests need it.
    """
    try:
        from skimage import data
    except ImportError:
        return {}
    files = {name: file for name, file in PHOTOGRAPHS.items() if name in class_names}
    images = {file: getattr(data, file)() for file in files.values()}
    # The motorcycle is a pair of images with their disparities.
    return {file: image[0] if isinstance(image, tuple) else image for file, image in images.items()}


def _read(file: Path) -> Example:
    return Example(file.read_bytes(), _media_type(file))


def _jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(file, "JPEG", quality=95)
    return file.getvalue()


def _media_type(file: Path) -> str:
    Image.init()
    return Image.MIME.get(Image.EXTENSION.get(file.suffix.lower(), ""), "application/octet-stream")
