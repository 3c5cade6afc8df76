"""Finding configs by name, in this package and in Detectron2's model zoo."""

import difflib
from pathlib import Path

from detectron2 import model_zoo
from detectron2.utils.file_io import PathManager

from insta_rtdetr.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
# The configs are in the package if it is installed from a wheel, and next to it in the repository.
_ROOTS = (PACKAGE / "configs", PACKAGE.parent / "configs")


def config_files() -> dict[str, Path]:
    """Return name -> file of all configs of this package, without the base configs."""
    folder = next((root for root in _ROOTS if root.is_dir()), None)
    files = sorted(folder.glob("*/instance-segmentation/*.yaml")) if folder else []
    return {file.stem: file for file in files if not file.stem.startswith("Base-")}


def find_config(name: str) -> str:
    """Return the path of the yaml file of a config.

    Args:
        name: a path, a name of `config_files`, or a name of Detectron2's model zoo such as
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x".

    Raises:
        UserError: there is no such config.
    """
    if PathManager.isfile(name):
        return name
    stem = name.removesuffix(".yaml")
    if stem in config_files():
        return str(config_files()[stem])
    try:
        return model_zoo.get_config_file(f"{stem}.yaml")
    except RuntimeError as error:
        nearest = difflib.get_close_matches(stem, config_files(), n=1, cutoff=0.0)
        advice = f", a name such as {nearest[0]}" if nearest else ""
        raise UserError(
            f"Config file {name} not found.  Give an existing yaml file{advice}, or a name of Detectron2's model zoo."
        ) from error
