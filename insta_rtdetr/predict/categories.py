"""The names of a model's classes, and their ids in COCO files."""

import json
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata

from insta_rtdetr.data.toy_scenes import CATEGORIES as TOY_CLASSES
from insta_rtdetr.engine.errors import UserError

# Detectron2's models keep their number of classes in a section of their own.
CLASS_SECTIONS = {"GeneralizedRCNN": "ROI_HEADS", "PanopticFPN": "ROI_HEADS", "RetinaNet": "RETINANET"}


@dataclass(frozen=True)
class Categories:
    """Class `i` of a model has the name names[i], and the id ids[i] in COCO files."""

    names: tuple[str, ...]
    ids: tuple[int, ...]


def categories_of(cfg: CfgNode, class_names: list[str] | None = None) -> Categories:
    """The categories of a model.

    Args:
        cfg: the model's; names are taken from its datasets if they are known here and as many as the model's classes,
            else from COCO for 80 classes, else the classes are named by their numbers.
        class_names: those that the checkpoint tells, which are believed before all others.

    Ids are those of the dataset with these names, else 1, 2, 3 ...

    Raises:
        UserError: the checkpoint's classes are more or fewer than the model's.
    """
    num_classes = _num_classes(cfg)
    if class_names and len(class_names) != num_classes:
        raise UserError(
            f"{cfg.MODEL.WEIGHTS} was trained for {len(class_names)} classes, the config is for {num_classes}.  "
            "Use the config it was trained with."
        )
    candidates = [_of_dataset(name) for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN, "coco_2017_val")]
    if class_names:
        candidates = [known for known in candidates if known.names == tuple(class_names)]
        candidates.append(_counted(class_names))
    candidates.append(_counted([str(class_id) for class_id in range(num_classes)]))
    return next(known for known in candidates if len(known.names) == num_classes)


def _num_classes(cfg: CfgNode) -> int:
    section = CLASS_SECTIONS.get(cfg.MODEL.META_ARCHITECTURE)
    return cfg.MODEL[section].NUM_CLASSES if section else cfg.MODEL.NUM_CLASSES


def _counted(names: list[str] | tuple[str, ...]) -> Categories:
    return Categories(tuple(names), tuple(range(1, len(names) + 1)))


def _of_dataset(name: str) -> Categories:
    """A dataset's; none if they are not known."""
    # MetadataCatalog.get would make up an entry for an unknown name.
    metadata = MetadataCatalog.get(name) if name in MetadataCatalog.list() else Metadata()
    if names := metadata.get("thing_classes"):
        ids = metadata.get("thing_dataset_id_to_contiguous_id") or {}
        return Categories(tuple(names), tuple(sorted(ids, key=ids.get))) if ids else _counted(names)
    try:
        # Names are set when the dataset is loaded, which nobody needs here.
        categories = json.loads(Path(metadata.get("json_file", "")).read_text())["categories"]
        categories = sorted(categories, key=lambda category: category["id"])
        return Categories(tuple(c["name"] for c in categories), tuple(c["id"] for c in categories))
    except (OSError, ValueError, KeyError, TypeError):
        # The toy dataset may not have been drawn yet.
        return _counted(TOY_CLASSES if name in ("toy_train", "toy_val") else ())
