"""Building the evaluator of a dataset."""

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from insta_rtdetr.data import needs_masks
from insta_rtdetr.errors import UserError

from .cityscapes import CityscapesEvaluator
from .coco import FasterCOCOEvaluator, has_faster_coco_eval
from .quiet import QuietCOCOEvaluator

# Limit of objects in an image that was cut into tiles, each of which has a limit of its own.
ALL_DETECTIONS = 10**6


def build_evaluator(cfg: CfgNode, dataset_name: str, output_dir: str | None = None) -> DatasetEvaluator:
    """Build the evaluator of a registered dataset for the evaluator_type of its metadata.

    Args:
        cfg: the config.
        dataset_name: name of the dataset.
        output_dir: folder of the predictions; None for OUTPUT_DIR/inference.

    Raises:
        UserError: there is no evaluator for this type, or it evaluates only masks and MODEL.STAGE has none.
    """
    evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type", None)
    if evaluator_type == "cityscapes_instance" and not needs_masks(cfg):
        raise UserError(
            f"Dataset {dataset_name} is for masks alone, and MODEL.STAGE detector has none.  Set DATASETS.TEST to "
            "another, or to ()."
        )
    if evaluator_type == "cityscapes_instance":
        return CityscapesEvaluator(dataset_name)
    if evaluator_type != "coco":
        raise UserError(
            f"Dataset {dataset_name} has evaluator_type {evaluator_type!r}, wanted 'coco' or 'cityscapes_instance'.  "
            "Register it in COCO format or choose another dataset in DATASETS.TEST."
        )
    evaluator = FasterCOCOEvaluator if has_faster_coco_eval() else QuietCOCOEvaluator
    return evaluator(
        dataset_name,
        tasks=("bbox", "segm") if needs_masks(cfg) else ("bbox",),
        distributed=True,
        output_dir=output_dir or os.path.join(cfg.OUTPUT_DIR, "inference"),
        max_dets_per_image=ALL_DETECTIONS if cfg.TEST.TILE.SIZE else cfg.TEST.DETECTIONS_PER_IMAGE,
        # Detectron2's fast implementation needs its compiled extension and is not COCO's own code.
        use_fast_impl=False,
    )
