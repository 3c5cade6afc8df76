"""Reading images from files and writing them.  Images are uint8 (H, W, 3), RGB."""

import os

import numpy as np
from PIL import Image

from insta_rtdetr.atomic import new_file
from insta_rtdetr.errors import ImageError
from insta_rtdetr.image_file import UNREADABLE, read_rgb, reason_unreadable


def read_image(file: str | os.PathLike) -> np.ndarray:
    """Read an image file upright, as its EXIF data says, which is also how training reads it.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return read_rgb(file)
    except UNREADABLE as error:
        raise ImageError(f"{file} cannot be read: {reason_unreadable(error)}") from error


def write_image(image_rgb: np.ndarray, file: str | os.PathLike) -> None:
    """Write an image in the format of the file's ending, whole or not at all."""
    with new_file(file, several_writers=True, keep_ending=True) as unfinished:
        Image.fromarray(image_rgb).save(unfinished)
