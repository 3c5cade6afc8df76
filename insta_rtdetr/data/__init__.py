"""STEP 1 of the data flow: dataset dict -> {"image" (3, H, W), "instances"}.

Importing it registers the toy dataset as toy_train and toy_val.
"""

from .datasets import DatasetError, check_dataset, load_datasets, register_builtin_datasets, register_coco_folder
from .instance_mapper import InstanceMapper

__all__ = ["DatasetError", "InstanceMapper", "check_dataset", "load_datasets", "register_coco_folder"]

register_builtin_datasets()
