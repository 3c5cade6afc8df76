"""Names of a model's classes, and their ids in COCO files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from insta_rtdetr.checkpoint.classes import COCO_DATASET, guess_class_names, shorten
from insta_rtdetr.data.class_names import config_class_names, dataset_class_names, num_classes
from insta_rtdetr.errors import UserError


@dataclass(frozen=True)
class Categories:
    """Names and ids of a model's classes.

    Attributes:
        names: name of class 0, 1, 2, ...
        ids: their category ids in COCO files.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]


def categories_of(cfg: CfgNode, trained_names: Sequence[str] = ()) -> Categories:
    """Return the categories of a model.

    The names are those of the config's datasets if they are known here, else those in the checkpoint, else COCO's for
    80 classes, else numbers.  The ids are those of the dataset with these names, else 1, 2, 3, ...

    Args:
        cfg: config of the model.
        trained_names: class names in the checkpoint; empty if it does not name its classes.

    Raises:
        UserError: the checkpoint was trained for other classes, none of which is the model's.
    """
    count = num_classes(cfg)
    names = config_class_names(cfg)
    if trained_names and not (set(names) & set(trained_names) if names else len(trained_names) == count):
        raise UserError(
            f"{cfg.MODEL.WEIGHTS} was trained for {len(trained_names)} other classes ({shorten(trained_names)}), the "
            f"config is for {count}.  Use the config it was trained with."
        )
    names = names or list(trained_names) or guess_class_names(count) or [str(class_id) for class_id in range(count)]
    return Categories(tuple(names), _ids_of(names, cfg))


def _ids_of(names: list[str], cfg: CfgNode) -> tuple[int, ...]:
    for dataset in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN, COCO_DATASET):
        if list(dataset_class_names(dataset)) == names:
            return _dataset_ids(dataset) or tuple(range(1, len(names) + 1))
    return tuple(range(1, len(names) + 1))


def _dataset_ids(name: str) -> tuple[int, ...]:
    """Return the ids of a dataset's classes, in the order of the classes; empty if they are not known."""
    metadata = MetadataCatalog.get(name)
    if ids := metadata.get("thing_dataset_id_to_contiguous_id"):
        return tuple(sorted(ids, key=ids.get))
    try:
        categories = json.loads(Path(metadata.get("json_file", "")).read_text())["categories"]
        return tuple(sorted(category["id"] for category in categories))
    except (OSError, ValueError, KeyError, TypeError):
        return ()
