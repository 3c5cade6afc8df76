"""Data of training and evaluation, step 1 of the data flow: dataset dict -> {"image" (3, H, W), "instances"}.

Importing the package registers the toy dataset, Cityscapes and ADE20K; see benchmarks.py.
"""

from .benchmarks import register_builtin_datasets
from .class_names import config_class_names
from .datasets import check_dataset, load_datasets, needs_masks, register_coco_folder
from .instance_mapper import InstanceMapper
from .layouts import FoundDataset, find_dataset
from .own import register_found

__all__ = [
    "FoundDataset", "InstanceMapper", "check_dataset", "config_class_names", "find_dataset",
    "load_datasets", "needs_masks", "register_coco_folder", "register_found",
]  # fmt: skip

register_builtin_datasets()
