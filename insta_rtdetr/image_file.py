"""Reading image files.  Every part of the package gets them upright, with three channels of 8 bits."""

import os
import zlib

import numpy as np
from PIL import Image, ImageOps

# Exceptions that Pillow raises for files that are missing, cut short, broken, no image, or too large for the memory.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, zlib.error, Image.DecompressionBombError)

# The EXIF tag of the orientation, and those of its values that swap width and height.
EXIF_ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)


def read_rgb(file: str | os.PathLike) -> np.ndarray:
    """Read an image file; see `upright_rgb` for the result and the errors."""
    with Image.open(file) as image:
        return upright_rgb(image)


def upright_rgb(image: Image.Image) -> np.ndarray:
    """Return the pixels of an opened image, turned as its EXIF orientation says, without transparency.

    Returns:
        uint8 (H, W, 3), RGB.  The highest 8 bits of 16-bit values are kept, as Pillow does for colour images.  In a
        float image, black and white are 0 and 1 if no value is above 1, else 0 and 255.

    Raises:
        OSError, ValueError, ...: the image cannot be read; see UNREADABLE.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # Pillow's own conversion clips these 16-bit grey values at 255.
        return _from_grey(np.asarray(image) >> 8)
    if image.mode == "F":
        grey = np.nan_to_num(np.asarray(image))
        return _from_grey((grey if grey.max() > 1 else grey * 255).round())
    return np.asarray(image.convert("RGB"))


def _from_grey(grey: np.ndarray) -> np.ndarray:
    """Turn grey values (H, W) of any type into uint8 (H, W, 3), clipped to 0..255."""
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def reason_unreadable(error: BaseException) -> str:
    """Return in one line why an image cannot be read.

    A missing file and an unknown format have a wording of their own: Pillow's message may name an internal buffer.
    """
    if isinstance(error, FileNotFoundError):
        return "it is missing"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image, or of an unknown format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def upright_wh(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) in pixels of an opened image after the turn that its EXIF orientation asks for."""
    return image.size[::-1] if exif_orientation(image) in TURNED else image.size


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image; 1 is upright."""
    # `getexif` is not called for a PNG without EXIF data in its header: Pillow would decode the whole file to look for
    # EXIF data behind the pixels.
    has_exif = image.format != "PNG" or "exif" in image.info
    return image.getexif().get(EXIF_ORIENTATION, 1) if has_exif else 1
