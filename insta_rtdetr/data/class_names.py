"""Number and names of the classes of a config's model."""

import json
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata

from .toy_scenes import CATEGORIES as TOY_CLASSES

# Detectron2's models keep their number of classes in these config sections.
CLASS_SECTIONS = {"GeneralizedRCNN": "ROI_HEADS", "PanopticFPN": "ROI_HEADS", "RetinaNet": "RETINANET"}


def config_class_names(cfg: CfgNode) -> list[str]:
    """Return the class names of the config's first dataset that has as many classes as the model; empty without one."""
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        names = dataset_class_names(dataset)
        if len(names) == num_classes(cfg):
            return list(names)
    return []


def num_classes(cfg: CfgNode) -> int:
    """Return the number of classes of the config's model."""
    section = CLASS_SECTIONS.get(cfg.MODEL.META_ARCHITECTURE)
    return cfg.MODEL[section].NUM_CLASSES if section else cfg.MODEL.NUM_CLASSES


def set_num_classes(cfg: CfgNode, count: int) -> None:
    """Set the number of classes of the config's model, whichever architecture it has."""
    cfg.MODEL.NUM_CLASSES = count
    for section in set(CLASS_SECTIONS.values()):
        cfg.MODEL[section].NUM_CLASSES = count


def dataset_class_names(name: str) -> list[str]:
    """Return the class names of a dataset; empty if they are not known."""
    # MetadataCatalog.get would add an entry for an unknown name.
    metadata = MetadataCatalog.get(name) if name in MetadataCatalog.list() else Metadata()
    if metadata.get("thing_classes"):
        return metadata.thing_classes
    try:
        # The metadata gets its names only when the dataset is loaded, which would take longer than to read the file.
        categories = json.loads(Path(metadata.get("json_file", "")).read_text())["categories"]
        return [category["name"] for category in sorted(categories, key=lambda category: category["id"])]
    except (OSError, ValueError, KeyError, TypeError):
        # The toy dataset may not have been drawn yet.
        return list(TOY_CLASSES) if name in ("toy_train", "toy_val") else []
