"""Inputs of prediction: images, videos, addresses and arrays, told apart and read.  All images are RGB."""

import contextlib
import glob
import numbers
import os
import shutil
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insta_rtdetr.errors import ImageError, UserError
from insta_rtdetr.image_file import UNREADABLE, reason_unreadable, upright_rgb
from insta_rtdetr.visualization import read_image

from .video import VIDEO_ENDINGS, count_frames, frames_per_second, read_video
from .windows import WindowedImage, open_image

TIMEOUT_SECONDS = 60


@dataclass
class LoadedImage:
    """Image that has been read.

    Attributes:
        image: uint8 (H, W, 3), RGB; a `WindowedImage` for a large file that is read by crops.
        name: path or address that it comes from, or "image_3" for the third image of a list.
        frame: number of the frame in a video, from 0; None for an image.
        fps: frames per second of the video; None for an image.
    """

    image: np.ndarray | WindowedImage
    name: str
    frame: int | None = None
    fps: float | None = None


@dataclass
class Input:
    """Input of prediction: an image file, a video file, an address of either, or an image in memory.

    Attributes:
        name: path or address, or "image_3" for the third image of a list in memory.
        image: the image in memory; None for the others.
    """

    name: str
    image: np.ndarray | Image.Image | None = None

    @property
    def is_video(self) -> bool:
        """Return whether it is a video."""
        return self.image is None and Path(self.path).suffix.lower() in VIDEO_ENDINGS

    @property
    def path(self) -> str:
        """Return the path in `name`, without the server and the query of an address."""
        return urllib.parse.urlparse(self.name).path if is_address(self.name) else self.name

    def count_images(self) -> int:
        """Return 1 for an image, and for a video the number of frames that it declares.

        That number is 0 for a video that declares none, or that is an address.
        """
        if not self.is_video:
            return 1
        return 0 if is_address(self.name) else count_frames(self.name)

    def read(self, first_frame: int = 0, by_crops: bool = False) -> Iterator[LoadedImage]:
        """Read the image, or a video's frames.

        Args:
            first_frame: frame of a video to start from.
            by_crops: whether a large image file is opened as a `WindowedImage`, of which only crops are read.

        Raises:
            ImageError: it cannot be read.
        """
        if self.image is not None:
            is_array = isinstance(self.image, np.ndarray)
            yield LoadedImage(self.image if is_array else _pixels(self.image, self.name), self.name)
            return
        with _on_disk(self.name) as file, _named(self.name, file):
            if self.is_video:
                fps = frames_per_second(file)
                for frame, image in enumerate(read_video(file, first_frame), start=first_frame):
                    yield LoadedImage(image, self.name, frame, fps)
            else:
                yield LoadedImage(open_image(file) if by_crops else read_image(file), self.name)


def check_options(threshold: float, batch_size: int) -> None:
    """Check the options of `Model.predict`.

    Raises:
        UserError: a value is of another type, or out of its range.
    """
    if not (isinstance(threshold, numbers.Real) and 0 <= threshold <= 1):
        raise UserError(f"threshold is {threshold}, wanted 0 to 1.")
    if not (isinstance(batch_size, numbers.Integral) and 1 <= batch_size <= sys.maxsize):
        raise UserError(f"batch_size is {batch_size}, wanted a whole number, at least 1.")


def find_inputs(source: Any) -> list[Input]:
    """Return the inputs that a source consists of, without reading them; see `Model.predict` for the kinds of sources.

    Raises:
        UserError: it is of another kind, does not exist, or is empty.
    """
    sources = list(source) if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise UserError("The list of images is empty.")
    inputs = [one for number, item in enumerate(sources, start=1) for one in _inputs_of(item, number)]
    # A file that is named twice is one input.  Each image in memory has a name of its own.
    return list({one.name: one for one in inputs}.values())


def _inputs_of(item: Any, number: int) -> list[Input]:
    if isinstance(item, np.ndarray):
        return [Input(f"image_{number}", _check_array(item, number))]
    if isinstance(item, Image.Image):
        return [Input(f"image_{number}", item)]
    if not isinstance(item, (str, os.PathLike)):
        raise UserError(
            f"Image {number} is a {type(item).__name__}, wanted a path, an address, a PIL image, an array "
            "(H, W, 3) of uint8 in RGB, or a list of these."
        )
    name = os.fspath(item)
    if is_address(name):
        return [Input(name)]
    return [Input(str(file)) for file in find_files(os.path.expanduser(name))]


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    """Return the pixels of a PIL image, which are the same as those read from the image's file."""
    try:
        # `upright_rgb` gets a copy, because it turns its argument in place.
        pixels = upright_rgb(image.copy())
    except UNREADABLE as error:
        raise ImageError(f"{name} cannot be read: {reason_unreadable(error)}") from error
    if not pixels.size:
        raise ImageError(f"{name} cannot be read: it has {image.width} x {image.height} pixels")
    return pixels


def _check_array(image: np.ndarray, number: int) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"Image {number} is an array {image.dtype} {image.shape}, wanted uint8 (H, W, 3), RGB.")
    return image


def is_address(name: str) -> bool:
    """Return whether a name is an address that is fetched from the network."""
    return name.lower().startswith(("http://", "https://"))


def find_files(path: str) -> list[Path]:
    """Return the files that a path stands for.

    They are the file itself; all images directly in a folder, by name; or all files that match a pattern.

    Raises:
        UserError: the path does not exist, or a folder or a pattern gives no file.
    """
    if os.path.isdir(path):
        found = [file for file in sorted(Path(path).iterdir()) if _is_image_name(file)]
        if not found:
            raise UserError(f"{path} is a folder without images.")
        return found
    if os.path.exists(path):
        return [Path(path)]
    if not glob.has_magic(path):
        raise UserError(f"{path} not found.  Give an existing image, video, folder or pattern.")
    found = [Path(name) for name in sorted(glob.glob(path, recursive=True)) if os.path.isfile(name)]
    if not found:
        raise UserError(f"{path} matches no file.")
    return found


def _is_image_name(file: Path) -> bool:
    suffix = file.suffix.lower()
    # Videos are excluded, because Pillow knows the endings of some.
    is_known = suffix in Image.registered_extensions() and suffix not in VIDEO_ENDINGS
    return is_known and not file.name.startswith(".") and file.is_file()


@contextlib.contextmanager
def _on_disk(name: str) -> Iterator[str]:
    """Give the path of a file in a `with` block; what an address refers to is downloaded for the time of the block."""
    if not is_address(name):
        yield name
        return
    suffix = Path(urllib.parse.urlparse(name).path).suffix
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        try:
            with urllib.request.urlopen(name, timeout=TIMEOUT_SECONDS) as answer:
                shutil.copyfileobj(answer, file)
        except (OSError, ValueError) as error:
            raise ImageError(f"{name} cannot be fetched: {error}") from error
        file.flush()
        yield file.name


@contextlib.contextmanager
def _named(name: str, file: str) -> Iterator[None]:
    """Replace the file's path in error messages by the address that it was fetched from."""
    try:
        yield
    except ImageError as error:
        raise ImageError(str(error).replace(file, name)) from error
