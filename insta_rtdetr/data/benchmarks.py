"""Registration of datasets under $DETECTRON2_DATASETS, beside those that Detectron2 registers (COCO).

| names                       | folder             | evaluator  |
|-----------------------------|--------------------|------------|
| toy_{train,val}             | toy                | COCO       |
| ade20k_instance_{train,val} | ADEChallengeData2016 | COCO     |
| cityscapes_instance_{train,val} | cityscapes     | Cityscapes |
"""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
from detectron2.data.datasets.cityscapes import load_cityscapes_instances
from detectron2.structures import BoxMode

from insta_rtdetr.errors import DatasetError

from .ade20k import CLASS_NAMES as ADE20K_CLASSES
from .ade20k import FOLDER as ADE20K_FOLDER
from .ade20k import SPLITS as ADE20K_SPLITS
from .ade20k import json_file as ade20k_json_file
from .datasets import ROOT_VARIABLE, forget_dataset, mend_path, register_coco_folder, register_coco_json

CITYSCAPES_CLASSES = [item["name"] for item in CITYSCAPES_CATEGORIES if item["isthing"]]


def register_builtin_datasets() -> None:
    """Register the datasets of the table above, except names that are registered already.  Nothing is read yet."""
    root = Path(os.getenv(ROOT_VARIABLE, "datasets")).expanduser()
    known = set(DatasetCatalog.list())
    if "toy_train" not in known:
        register_coco_folder("toy", root / "toy")
    if "ade20k_instance_train" not in known:
        register_ade20k(root / ADE20K_FOLDER)
    if "cityscapes_instance_train" not in known:
        register_cityscapes(root / "cityscapes")


def register_ade20k(folder: Path) -> None:
    """Register ade20k_instance_{train,val} for a folder that datasets/prepare_ade20k_instance.py has prepared."""
    for split, images in ADE20K_SPLITS.items():
        name = f"ade20k_instance_{split}"
        register_coco_json(name, ade20k_json_file(folder, split), folder / "images" / images)
        MetadataCatalog.get(name).set(
            thing_classes=list(ADE20K_CLASSES.values()),
            thing_dataset_id_to_contiguous_id={id_: index for index, id_ in enumerate(ADE20K_CLASSES)},
        )


def register_cityscapes(folder: Path) -> None:
    """Register cityscapes_instance_{train,val} for a folder with leftImg8bit/ and gtFine/.

    Detectron2's own cityscapes_fine_instance_seg_* read the polygons of the JSON files, which lose holes and need the
    package shapely.  These datasets read the masks that the evaluation compares with.
    """
    for split in ("train", "val"):
        name = f"cityscapes_instance_{split}"
        image_dir, gt_dir = folder / "leftImg8bit" / split, folder / "gtFine" / split
        forget_dataset(name)
        DatasetCatalog.register(
            name, lambda name=name, images=image_dir, truth=gt_dir: load_cityscapes(name, images, truth)
        )
        # These are strings because Detectron2 appends a file name to them.
        MetadataCatalog.get(name).set(
            image_dir=str(image_dir), gt_dir=str(gt_dir), evaluator_type="cityscapes_instance",
            thing_classes=CITYSCAPES_CLASSES,
        )  # fmt: skip


def load_cityscapes(name: str, image_dir: Path, gt_dir: Path) -> list[dict]:
    """Return Detectron2's dataset dicts of one split, with the masks of *_gtFine_instanceIds.png.

    Raises:
        DatasetError: cityscapesscripts is not installed, or a folder or a file is missing.
    """
    require_cityscapesscripts(name)
    for folder in (image_dir, gt_dir):
        if not folder.is_dir():
            raise DatasetError(f"{name}: folder {folder} not found.  {mend_path(name)}")
    try:
        dicts = load_cityscapes_instances(str(image_dir), str(gt_dir), from_json=False, to_polygons=False)
    except (OSError, AssertionError) as error:
        raise DatasetError(f"{name}: {error} is missing or not Cityscapes'.  {mend_path(name)}") from None
    for annotation in (annotation for item in dicts for annotation in item["annotations"]):
        # Detectron2 gives the index of the last pixel, but a box ends one pixel further.
        left, top, right, bottom = (int(value) for value in annotation["bbox"])
        annotation |= {"bbox": [left, top, right + 1, bottom + 1], "bbox_mode": BoxMode.XYXY_ABS}
        annotation["iscrowd"] = int(annotation["iscrowd"])
    return dicts


def require_cityscapesscripts(name: str) -> None:
    """Check that the package with Cityscapes' labels and evaluation is installed.

    Raises:
        DatasetError: it is not installed.
    """
    try:
        import cityscapesscripts.helpers.labels  # noqa: F401
    except ImportError as error:
        raise DatasetError(f"{name} needs the package cityscapesscripts ({error}).  "
                           "Run: pip install cityscapesscripts") from None  # fmt: skip
