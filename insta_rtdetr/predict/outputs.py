"""Files and folders that drawn images and videos are written to."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from insta_rtdetr.errors import UserError

from .inputs import Input
from .video import VIDEO_CODECS

# Formats of drawn images; an image of another format is written as .png.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def drawing_targets(inputs: Sequence[Input], output: str) -> list[Path]:
    """Return for each input the file that its drawing is written to.

    Args:
        inputs: the inputs.
        output: a file, or a folder for files named like the inputs.

    Raises:
        UserError: there are several inputs but the output is a file; its ending cannot be written; or an input would be
            replaced.
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
    """Return whether the output means one file: it has one of these endings and is no folder."""
    return _has_ending(output) and Path(output).suffix.lower() in endings


def _has_ending(output: str) -> bool:
    return bool(Path(output).suffix) and not output.endswith(os.sep) and not os.path.isdir(output)


def targets_in(folder: str, inputs: Iterable[Input]) -> list[Path]:
    """Return files in a folder that are named like the inputs.

    Names that occur twice are numbered, and endings that cannot be written are replaced.
    """
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
    """Check that no input is overwritten.

    Raises:
        UserError: a target is the file of an input.
    """
    resolved = {target.resolve() for target in targets}
    for name in names:
        if Path(name).resolve() in resolved:
            raise UserError(f"What is written would replace the input {name}.  Name another file or folder.")


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Turn errors of a `with` block that writes a file, such as a full disk, into UserErrors."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}.") from error


def make_folder(folder: Path) -> None:
    """Make a folder to write to, if it does not exist.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Folder {folder} cannot be made ({error}).  Name another file or folder.") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"Folder {folder} cannot be written to.  Name another file or folder.")
