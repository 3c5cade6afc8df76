"""Where drawn images and videos are written."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from insta_rtdetr.errors import UserError

from .inputs import Input
from .video import VIDEO_CODECS

# What drawn images are written as; those of another format become .png.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def drawing_targets(inputs: Sequence[Input], output: str) -> list[Path]:
    """Where what is drawn on each input is written: a file, or in a folder under the input's name.

    Raises:
        UserError: several inputs, but the output is a file; its ending is not written; or an input would be replaced.
    """
    endings = tuple(VIDEO_CODECS) if inputs[0].is_video else IMAGE_ENDINGS
    if is_file_name(output, (*IMAGE_ENDINGS, *VIDEO_CODECS)) or (inputs[0].is_video and _has_ending(output)):
        if len(inputs) > 1:
            raise UserError(f"{output} is one file, but there are {len(inputs)} images.  Name a folder.")
        if not is_file_name(output, endings):
            raise UserError(f"{output} ends in {Path(output).suffix}, wanted {', '.join(endings)} or a folder.")
        targets = [Path(output)]
    else:
        targets = targets_in(output, inputs)
    refuse_replacing([one.name for one in inputs], targets)
    return targets


def is_file_name(output: str, endings: tuple[str, ...]) -> bool:
    """Whether the output means one file: it has a file's ending and is no folder."""
    return _has_ending(output) and Path(output).suffix.lower() in endings


def _has_ending(output: str) -> bool:
    return bool(Path(output).suffix) and not output.endswith(os.sep) and not os.path.isdir(output)


def targets_in(folder: str, inputs: Iterable[Input]) -> list[Path]:
    """Files in a folder, named like the inputs; names that occur twice are numbered, unwritable endings replaced."""
    taken: dict[Path, int] = {}
    targets = []
    for one in inputs:
        endings = tuple(VIDEO_CODECS) if one.is_video else IMAGE_ENDINGS
        default = ".mp4" if one.is_video else ".png"
        path = Path(one.path)
        suffix = path.suffix if path.suffix.lower() in endings else default
        first = target = Path(folder) / f"{path.stem or 'image'}{suffix}"
        while target in taken:
            taken[first] += 1
            target = first.with_stem(f"{first.stem}_{taken[first]}")
        taken[target] = 1
        targets.append(target)
    return targets


def refuse_replacing(names: Iterable[str], targets: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        UserError: a target is one of the inputs' files.
    """
    resolved = {target.resolve() for target in targets}
    for name in names:
        if Path(name).resolve() in resolved:
            raise UserError(f"What is written would replace the input {name}.  Name another file or folder.")


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Within the context a file is written: what hinders it, such as a full disk, is a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}.") from error


def make_folder(folder: Path) -> None:
    """Make a folder to write to, if there is none.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Folder {folder} cannot be made ({error}).  Name another file or folder.") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"Folder {folder} cannot be written to.  Name another file or folder.")
