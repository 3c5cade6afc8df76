"""Which files the demo reads, and where it writes."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from insta_rtdetr.engine import UserError

# What drawn pictures are written as; those of another format become .png.
WRITTEN_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def find_pictures(paths: list[str]) -> list[Path]:
    """Files as given; of a folder all pictures directly in it, by name; of a pattern all files that match.

    Raises:
        UserError: a path does not exist, or a folder or a pattern gives no file.
    """
    files = [file for path in paths for file in _find(os.path.expanduser(path))]
    return list(dict.fromkeys(files))


def _find(path: str) -> list[Path]:
    if os.path.isdir(path):
        found = [file for file in sorted(Path(path).iterdir()) if _is_picture_name(file)]
        if not found:
            raise UserError(f"--input {path} is a folder without pictures.")
        return found
    if os.path.exists(path):
        return [Path(path)]
    if not glob.has_magic(path):
        raise UserError(f"--input {path} not found.  Give an existing picture, folder or pattern.")
    found = [Path(name) for name in sorted(glob.glob(path, recursive=True)) if os.path.isfile(name)]
    if not found:
        raise UserError(f"--input {path} matches no file.")
    return found


def _is_picture_name(file: Path) -> bool:
    is_known = file.suffix.lower() in Image.registered_extensions()
    return is_known and not file.name.startswith(".") and file.is_file()


def picture_targets(files: list[Path], output: str) -> list[Path]:
    """Where each picture is written; names that occur twice are numbered.

    Raises:
        UserError: several pictures, but the output is a file; or an input would be replaced.
    """
    if _is_file_name(output, WRITTEN_ENDINGS):
        if len(files) > 1:
            raise UserError(f"--output {output} is one file, but there are {len(files)} pictures.  Name a folder.")
        targets = [Path(output)]
    else:
        targets = _names_in(output, files)
    for file in files:
        _refuse_replacing(file, targets)
    return targets


def video_target(file: str, output: str, endings: Iterable[str]) -> Path:
    """Where the video is written.

    Raises:
        UserError: the output's ending is none of these; or the input would be replaced.
    """
    endings = tuple(endings)
    if _is_file_name(output, endings):
        target = Path(output)
    elif Path(output).suffix and not output.endswith(os.sep) and not os.path.isdir(output):
        raise UserError(f"--output {output} ends in {Path(output).suffix}, wanted {', '.join(endings)} or a folder.")
    else:
        suffix = Path(file).suffix.lower()
        target = Path(output) / f"{Path(file).stem}{suffix if suffix in endings else endings[0]}"
    _refuse_replacing(Path(file), [target])
    return target


def _is_file_name(output: str, endings: tuple[str, ...]) -> bool:
    """Whether the output means one file: it has a file's ending and is no folder."""
    return Path(output).suffix.lower() in endings and not output.endswith(os.sep) and not os.path.isdir(output)


def _names_in(folder: str, files: list[Path]) -> list[Path]:
    targets: dict[Path, None] = {}
    for file in files:
        suffix = file.suffix if file.suffix.lower() in WRITTEN_ENDINGS else ".png"
        target, number = Path(folder) / f"{file.stem}{suffix}", 2
        while target in targets:
            target, number = Path(folder) / f"{file.stem}_{number}{suffix}", number + 1
        targets[target] = None
    return list(targets)


def _refuse_replacing(file: Path, targets: list[Path]) -> None:
    resolved = file.resolve()
    for target in targets:
        if target.resolve() == resolved:
            raise UserError(f"--output would replace the input {file}.  Name another file or folder.")


def make_folder(folder: Path) -> None:
    """Make a folder to write to, if there is none.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output: folder {folder} cannot be made ({error}).  Name another file or folder.") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"--output: folder {folder} cannot be written to.  Name another file or folder.")
