"""--dataset, the option of every command line that builds a model."""

from pathlib import Path

from detectron2.config import CfgNode

from insta_rtdetr.data import FoundDataset, find_dataset, register_found
from insta_rtdetr.data.class_names import set_num_classes
from insta_rtdetr.data.layouts import WHOLE


def use_dataset(cfg: CfgNode, path: str, needs_masks: bool = True) -> FoundDataset:
    """Register a dataset; set DATASETS.* and the number of classes to it.

    Args:
        path: folder or file of any layout in `insta_rtdetr.data.layouts`.
        needs_masks: whether objects without a mask are left out.

    Raises:
        DatasetError: it is of none, or wrong.
    """
    found = find_dataset(Path(path))
    names = register_found(found, needs_masks)
    cfg.DATASETS.TRAIN = tuple(names[split] for split in ("train", WHOLE) if split in names)
    cfg.DATASETS.TEST = tuple(names[split] for split in ("val", "test", WHOLE) if split in names)[:1]
    set_num_classes(cfg, len(found.classes))
    return found
