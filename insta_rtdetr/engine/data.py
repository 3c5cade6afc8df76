"""The datasets of a config and their loaders."""

from collections.abc import Iterable

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader

from insta_rtdetr.data import InstanceMapper, load_datasets, needs_masks
from insta_rtdetr.errors import config_errors

from .sampler import ResumableSampler


def load_train_dataset(cfg: CfgNode) -> list[dict]:
    """Load and check the dataset dicts of DATASETS.TRAIN.

    Raises:
        DatasetError: see insta_rtdetr.data.check_dataset.
    """
    return load_datasets(
        cfg.DATASETS.TRAIN,
        cfg.MODEL.NUM_CLASSES,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        max_missing=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
        with_masks=needs_masks(cfg),
    )


def build_train_loader(
    cfg: CfgNode, dataset: list[dict], mapper: InstanceMapper
) -> tuple[Iterable, ResumableSampler | None]:
    """Build Detectron2's endless loader of a dataset, and its sampler, which is None if it cannot be resumed.

    Raises:
        UserError: no loader can be built from the config's values.
    """
    sampler = None
    if cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler":
        sampler = ResumableSampler(len(dataset), seed=cfg.SEED if cfg.SEED >= 0 else None)
    batch_size = cfg.SOLVER.IMS_PER_BATCH // cfg.SOLVER.ACCUMULATION_STEPS
    with config_errors("data loader (DATALOADER.*)"):
        loader = build_detection_train_loader(
            cfg, mapper=mapper, dataset=dataset, sampler=sampler, total_batch_size=batch_size
        )
    return loader, sampler


def load_test_dataset(cfg: CfgNode, name: str) -> list[dict]:
    """Load and check the dataset dicts of one dataset of DATASETS.TEST.

    Raises:
        DatasetError: see insta_rtdetr.data.check_dataset.
    """
    max_missing = cfg.DATALOADER.MAX_UNREADABLE_IMAGES
    return load_datasets(
        [name], cfg.MODEL.NUM_CLASSES, key="DATASETS.TEST", max_missing=max_missing, with_masks=needs_masks(cfg)
    )
