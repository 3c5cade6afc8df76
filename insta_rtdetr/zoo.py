"""Models by name: the configs and the checkpoint that come with this package, and Detectron2's model zoo."""

import difflib
from pathlib import Path

from detectron2 import model_zoo
from detectron2.utils.file_io import PathManager

from insta_rtdetr.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
# Within the package once it is installed from a wheel, beside it in the repository.
_CONFIG_ROOTS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
_WEIGHTS_ROOT = _PACKAGE.parent / "demo" / "weights"


def config_files() -> dict[str, Path]:
    """Name -> file of every config of this package that describes a whole model."""
    folder = next((root for root in _CONFIG_ROOTS if root.is_dir()), None)
    files = sorted(folder.glob("*/instance-segmentation/*.yaml")) if folder else []
    return {file.stem: file for file in files if not file.stem.startswith("Base-")}


def find_config(name: str) -> str:
    """The yaml file that a name stands for.

    Args:
        name: a path; a name of `config_files`; or one of Detectron2's model zoo, such as
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x".

    Raises:
        UserError: there is none.
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


def published_weights(config_file: str) -> str:
    """File or address of the weights that were published with a config of `find_config`; empty if there are none."""
    file = Path(config_file)
    shipped = _WEIGHTS_ROOT / f"{file.stem}.pth"
    if config_files().get(file.stem) == file and shipped.is_file():
        return str(shipped)
    try:
        zoo_root = Path(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")).parents[1]
        return model_zoo.get_checkpoint_url(str(file.relative_to(zoo_root)))
    except (RuntimeError, ValueError):
        return ""
