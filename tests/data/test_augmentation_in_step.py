"""Whatever is drawn: each object's class, box, mask and pixels stay in step, for each augmentation and for all at once.

Each class has a colour of its own, so the pixels themselves say which mask must lie where.
"""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util
from scipy import ndimage

from insta_rtdetr.config import add_insta_rtdetr_config
from insta_rtdetr.data import InstanceMapper

HEIGHT, WIDTH = 90, 120
COLORS = np.array([(240, 0, 0), (0, 240, 0), (0, 0, 240), (240, 240, 0), (240, 0, 240), (0, 240, 240)], dtype=np.uint8)
DRAWS = 30

AUGMENTATIONS = {
    "flip": {"RANDOM_FLIP": "horizontal"},
    "vertical flip": {"RANDOM_FLIP": "vertical"},
    "zoom-out": {"ZOOM_OUT_PROB": 1.0},
    "IoU crop": {"IOU_CROP_PROB": 1.0},
    "large-scale jitter": {"SCALE_JITTER": (0.3, 2.0)},
    "copy-paste": {"COPY_PASTE_PROB": 1.0},
    "mosaic": {"MOSAIC_PROB": 1.0},
    "all": {
        "RANDOM_FLIP": "horizontal", "ZOOM_OUT_PROB": 0.3, "IOU_CROP_PROB": 0.5, "SCALE_JITTER": (0.5, 2.0),
        "COPY_PASTE_PROB": 0.5, "MOSAIC_PROB": 0.5,
    },
}  # fmt: skip


def scene(file, rng, as_rle):
    """A dataset dict: ellipses on grey, one for each class, that do not overlap."""
    pixels = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
    annotations = []
    for index, category in enumerate(rng.permutation(len(COLORS))):
        left, top = 40 * (index % 3), 45 * (index // 3)
        center, radii = (left + rng.uniform(16, 24), top + rng.uniform(18, 26)), rng.uniform(8, 15, 2)
        turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        points = np.array(center) + radii * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        rle = mask_util.merge(mask_util.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH))
        pixels[mask_util.decode(rle).astype(bool)] = COLORS[category]
        low, high = points.min(axis=0), points.max(axis=0)
        annotations.append({
            "bbox": mask_util.toBbox(rle).tolist() if as_rle else [*low, *(high - low)],
            "bbox_mode": BoxMode.XYWH_ABS, "category_id": int(category), "iscrowd": 0,
            "segmentation": rle if as_rle else [points.ravel().tolist()],
        })  # fmt: skip
    Image.fromarray(pixels).save(file)
    return {"file_name": str(file), "height": HEIGHT, "width": WIDTH, "image_id": 1, "annotations": annotations}


def make_mapper(dicts, inputs):
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.INPUT.FORMAT, cfg.INPUT.RANDOM_FLIP, cfg.INPUT.FIXED_SIZE = "RGB", "none", (150, 160)
    for key, value in inputs.items():
        cfg.INPUT[key] = value
    return InstanceMapper(cfg, is_train=True, donors=dicts)


@pytest.fixture(params=["polygons", "RLE"])
def dicts(request, tmp_path):
    rng = np.random.default_rng(0)
    return [scene(tmp_path / f"{index}.png", rng, request.param == "RLE") for index in range(4)]


def shows(image, category):
    """bool (H, W): the pixels of a class's colour, without the blends at its border."""
    return np.abs(image.astype(int) - COLORS[category]).max(axis=2) < 20


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_pixels_masks_boxes_and_classes_stay_in_step(dicts, name):
    torch.manual_seed(0)
    np.random.seed(0)
    mapper = make_mapper(dicts, AUGMENTATIONS[name])
    # A pixel of a blended border, in an image that mosaic or paste has made, may be magnified several times after it.
    margin = 8 if name == "all" else 3
    num_objects = 0
    for draw in range(DRAWS):
        mapped = mapper(dicts[draw % len(dicts)])
        instances, image = mapped["instances"], mapped["image"].permute(1, 2, 0).numpy()
        masks, boxes = instances.gt_masks.tensor.numpy(), instances.gt_boxes.tensor.numpy()
        classes = instances.gt_classes.numpy()
        assert len(masks) == len(boxes) == len(classes) and masks.shape[1:] == image.shape[:2] == (150, 160)
        assert (masks.sum(axis=0) <= 2).all()  # neighbours share at most their border
        for category, mask, box in zip(classes, masks, boxes):
            inside = ndimage.binary_erosion(mask, iterations=margin)
            assert shows(image, category)[inside].mean() > 0.98 if inside.sum() > 20 else mask.any()
            ys, xs = np.nonzero(mask)
            assert (np.array([xs.min(), ys.min()]) >= box[:2] - margin / 2).all()
            assert (np.array([xs.max(), ys.max()]) + 1 <= box[2:] + margin / 2).all()
        for category in range(len(COLORS)):
            if "crop" in name or name == "all":
                break  # an object whose centre an IoU crop cuts off is no target, but its rest is seen
            of_class = masks[classes == category].any(axis=0)
            seen = ndimage.binary_erosion(shows(image, category), iterations=3)
            assert not (seen & ~of_class).any()
        num_objects += len(classes)
    assert num_objects > 2 * DRAWS


def test_photometric_distortion_leaves_boxes_masks_and_classes(dicts):
    plain, distorted = (make_mapper(dicts, {"PHOTOMETRIC_PROB": prob})(dicts[0]) for prob in (0.0, 1.0))
    assert not torch.equal(plain["image"], distorted["image"])
    for field in ("gt_boxes", "gt_masks"):
        one, other = (getattr(mapped["instances"], field).tensor for mapped in (plain, distorted))
        assert torch.equal(one, other)
    assert torch.equal(plain["instances"].gt_classes, distorted["instances"].gt_classes)


def test_mosaic_passes_over_an_unreadable_donor(dicts, tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    mapper = make_mapper([dicts[1]], {"MOSAIC_PROB": 1.0})
    mapper.max_unreadable = 1
    assert len(mapper(dicts[0])["instances"]) == 6
