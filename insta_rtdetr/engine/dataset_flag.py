"""The option --dataset of all command lines that build a model."""

from pathlib import Path

from detectron2.config import CfgNode

from insta_rtdetr.data import FoundDataset, find_dataset, register_found
from insta_rtdetr.data.class_names import set_num_classes
from insta_rtdetr.data.layouts import WHOLE


def use_dataset(cfg: CfgNode, path: str, needs_masks: bool = True) -> FoundDataset:
    """Register a dataset, and set DATASETS.* and the number of classes to it.

    Args:
        cfg: the config, which is changed.
        path: folder or file in one of the layouts of `insta_rtdetr.data.layouts`.
        needs_masks: whether objects without a mask are left out.

    Raises:
        DatasetError: the dataset is in none of the layouts, or is faulty.
    """
    found = find_dataset(Path(path))
    names = register_found(found, needs_masks)
    cfg.DATASETS.TRAIN = tuple(names[split] for split in ("train", WHOLE) if split in names)
    cfg.DATASETS.TEST = tuple(names[split] for split in ("val", "test", WHOLE) if split in names)[:1]
    set_num_classes(cfg, len(found.classes))
    return found
