"""Read an image file as every part of the package sees it: upright, three channels, 8 bits."""

import os
import zlib

import numpy as np
from PIL import Image, ImageOps

# What Pillow raises for files that are missing, cut short, broken, no image, or would fill the memory.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, zlib.error, Image.DecompressionBombError)

# The tag, and its values that swap width and height.
EXIF_ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)


def read_rgb(file: str | os.PathLike) -> np.ndarray:
    """Read an image, see `upright_rgb`, which tells what it returns and raises."""
    with Image.open(file) as image:
        return upright_rgb(image)


def upright_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of an opened image, turned as its EXIF orientation says, without its transparency.

    Returns:
        uint8 (H, W, 3), RGB.  Of 16 bits the highest 8 are kept, as Pillow does for colour images.  Of a float
        image black and white are 0 and 1 where nothing is above 1, else 0 and 255.
    Raises:
        OSError, ValueError, ...: see UNREADABLE.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion clips at 255
        return _from_grey(np.asarray(image) >> 8)
    if image.mode == "F":
        grey = np.nan_to_num(np.asarray(image))
        return _from_grey((grey if grey.max() > 1 else grey * 255).round())
    return np.asarray(image.convert("RGB"))


def _from_grey(grey: np.ndarray) -> np.ndarray:
    """(H, W), any numbers -> uint8 (H, W, 3), clipped."""
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def reason_unreadable(error: BaseException) -> str:
    """Why an image cannot be read, in one line; Pillow's own message may name Python's buffer."""
    if isinstance(error, FileNotFoundError):
        return "it is missing"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image, or of an unknown format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def upright_wh(image: Image.Image) -> tuple[int, int]:
    """(width, height) in pixels of an opened image after turning it as its EXIF orientation says."""
    # Pillow would decode a whole PNG to look for EXIF data behind its pixels.
    has_exif = image.format != "PNG" or "exif" in image.info
    is_turned = has_exif and image.getexif().get(EXIF_ORIENTATION) in TURNED
    return image.size[::-1] if is_turned else image.size
