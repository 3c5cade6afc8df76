"""Read a picture, draw what was found in it, write it.  Pictures are uint8 (H, W, 3), RGB."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import _apply_exif_orientation, convert_PIL_to_numpy
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import Visualizer
from PIL import Image, UnidentifiedImageError

from insta_rtdetr.engine.errors import UserError

# What Pillow raises for a file that is no picture, is cut short, is broken inside, or would fill the memory.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class PictureError(UserError):
    """A file that is no picture, or a broken one.  The message names it."""


def read_picture(file: str | os.PathLike) -> np.ndarray:
    """Read a picture, see `upright_rgb`.

    Raises:
        PictureError: it cannot be read.
    """
    try:
        with PathManager.open(os.fspath(file), "rb") as content:
            return upright_rgb(Image.open(content))
    except UnidentifiedImageError as error:
        # Its own message names no file, but Python's buffer.
        raise PictureError(f"{file} cannot be read: it is no picture, or of an unknown format") from error
    except UNREADABLE as error:
        raise PictureError(f"{file} cannot be read: {error}") from error


def upright_rgb(image: Image.Image) -> np.ndarray:
    """A picture as Detectron2 reads it: uint8 (H, W, 3), turned as its EXIF data says, without transparency.

    But for grey pictures of 16 bits: their high bytes are taken, where Pillow cuts off what is above 255.

    Raises:
        one of UNREADABLE: it is cut short or broken.
    """
    image = _apply_exif_orientation(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    return convert_PIL_to_numpy(image, "RGB")


def draw(image_rgb: np.ndarray, instances: Instances, class_names: Sequence[str], scale: float = 1.0) -> np.ndarray:
    """Draw masks, boxes, class names and scores over a picture.

    Args:
        class_names: of all classes of the model.
        scale: of the drawing; small pictures are easier to read enlarged.
    """
    visualizer = Visualizer(image_rgb, Metadata(thing_classes=list(class_names)), scale=scale)
    return visualizer.draw_instance_predictions(instances).get_image()


def video_drawer(class_names: Sequence[str]) -> Callable[[np.ndarray, Instances], np.ndarray]:
    """Gives a function like `draw` for the frames of one video: an object keeps its colour from frame to frame."""
    visualizer = VideoVisualizer(Metadata(thing_classes=list(class_names)))
    return lambda image_rgb, instances: visualizer.draw_instance_predictions(image_rgb, instances).get_image()


def write_picture(image_rgb: np.ndarray, file: str | os.PathLike) -> None:
    """Write a picture, in the format of the file's ending, all of it or nothing."""
    file = Path(file)
    temporary = file.with_name(f".{file.stem}.unfinished-{os.getpid()}{file.suffix}")
    try:
        Image.fromarray(image_rgb).save(temporary)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
