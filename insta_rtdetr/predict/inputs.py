"""What can be predicted, told apart and read: images, videos, addresses, arrays.  All images are RGB."""

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

TIMEOUT_SECONDS = 60


@dataclass
class LoadedImage:
    """An image that has been read.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        name: path or address it comes from, or "image_3" for the third of a list.
        frame: number in a video, from 0; None for an image.
        fps: frames a second of the video.
    """

    image: np.ndarray
    name: str
    frame: int | None = None
    fps: float | None = None


@dataclass
class Input:
    """An image file, a video file, an address of either, or an image in memory (`image` is not None)."""

    name: str
    image: np.ndarray | Image.Image | None = None

    @property
    def is_video(self) -> bool:
        """Whether it has frames."""
        return self.image is None and Path(self.path).suffix.lower() in VIDEO_ENDINGS

    @property
    def path(self) -> str:
        """Where it lies: `name` without an address' server and query."""
        return urllib.parse.urlparse(self.name).path if is_address(self.name) else self.name

    def count_images(self) -> int:
        """1, or the frames that a video says it has (0 if it does not say, or is an address)."""
        if not self.is_video:
            return 1
        return 0 if is_address(self.name) else count_frames(self.name)

    def read(self, first_frame: int = 0) -> Iterator[LoadedImage]:
        """The image, or a video's frames from one on.

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
                yield LoadedImage(read_image(file), self.name)


def check_options(threshold: float, batch_size: int) -> None:
    """Check what `Model.predict` is given beside its source.

    Raises:
        UserError: a value is of another kind, or out of its range.
    """
    if not (isinstance(threshold, numbers.Real) and 0 <= threshold <= 1):
        raise UserError(f"threshold is {threshold}, wanted 0 to 1.")
    if not (isinstance(batch_size, numbers.Integral) and 1 <= batch_size <= sys.maxsize):
        raise UserError(f"batch_size is {batch_size}, wanted a whole number, at least 1.")


def find_inputs(source: Any) -> list[Input]:
    """What a source consists of; see `Model.predict` for what it may be.  Nothing is read yet.

    Raises:
        UserError: it is of another kind, does not exist, or is empty.
    """
    sources = list(source) if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise UserError("The list of images is empty.")
    inputs = [one for number, item in enumerate(sources, start=1) for one in _inputs_of(item, number)]
    # A file that is named twice is one input; images in memory have names of their own.
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
    """Those that the image's file would give."""
    try:
        # Of the copy, because turning it upright changes it.
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
    """Whether it is to be fetched from the network."""
    return name.lower().startswith(("http://", "https://"))


def find_files(path: str) -> list[Path]:
    """A file as given; of a folder all images directly in it, by name; of a pattern all files that match.

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
    # Pillow knows the endings of some videos too.
    is_known = suffix in Image.registered_extensions() and suffix not in VIDEO_ENDINGS
    return is_known and not file.name.startswith(".") and file.is_file()


@contextlib.contextmanager
def _on_disk(name: str) -> Iterator[str]:
    """The path of a file, or of what an address gives, which is there for as long as the context."""
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
    """What is said of the file is said of the address it was fetched from."""
    try:
        yield
    except ImageError as error:
        raise ImageError(str(error).replace(file, name)) from error
