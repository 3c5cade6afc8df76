"""The names of the classes that a config's model has."""

import json
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata

from .toy_scenes import CATEGORIES as TOY_CLASSES

# Detectron2's models keep their number of classes in a section of their own.
CLASS_SECTIONS = {"GeneralizedRCNN": "ROI_HEADS", "PanopticFPN": "ROI_HEADS", "RetinaNet": "RETINANET"}


def config_class_names(cfg: CfgNode) -> list[str]:
    """The classes of the first of the config's datasets that has as many as the model; empty if none is known."""
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        names = dataset_class_names(dataset)
        if len(names) == num_classes(cfg):
            return list(names)
    return []


def num_classes(cfg: CfgNode) -> int:
    """How many classes the config's model has."""
    section = CLASS_SECTIONS.get(cfg.MODEL.META_ARCHITECTURE)
    return cfg.MODEL[section].NUM_CLASSES if section else cfg.MODEL.NUM_CLASSES


def set_num_classes(cfg: CfgNode, count: int) -> None:
    """Give the config's model, whichever it is, this many classes."""
    cfg.MODEL.NUM_CLASSES = count
    for section in set(CLASS_SECTIONS.values()):
        cfg.MODEL[section].NUM_CLASSES = count


def dataset_class_names(name: str) -> list[str]:
    """Class names of a dataset; empty if they are not known."""
    # MetadataCatalog.get would make up an entry for an unknown name.
    metadata = MetadataCatalog.get(name) if name in MetadataCatalog.list() else Metadata()
    if metadata.get("thing_classes"):
        return metadata.thing_classes
    try:
        # Names are set when the dataset is loaded, which nobody needs here.
        categories = json.loads(Path(metadata.get("json_file", "")).read_text())["categories"]
        return [category["name"] for category in sorted(categories, key=lambda category: category["id"])]
    except (OSError, ValueError, KeyError, TypeError):
        # The toy dataset may not have been drawn yet.
        return list(TOY_CLASSES) if name in ("toy_train", "toy_val") else []
