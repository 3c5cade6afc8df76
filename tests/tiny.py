"""A model small enough for tests, and inputs for it."""

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter

CONFIG_DIR = __file__.rsplit("/", 2)[0] + "/configs/coco/instance-segmentation"
# Names in Detectron2's model zoo.
MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
CASCADE_MASK_RCNN = "Misc/cascade_mask_rcnn_R_50_FPN_3x"
# Makes these small enough for a test.
SMALL_RCNN = [
    "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "MODEL.RPN.POST_NMS_TOPK_TEST", "10",
    "INPUT.MIN_SIZE_TEST", "64",
]  # fmt: skip


# KEY VALUE ... that make the model and the run of any of our configs small; the classes stay.
SMALL = [
    str(word) for word in (
        "MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
        "INPUT.FIXED_SIZE", (64, 64), "INPUT.MULTI_SCALE", (),
        "MODEL.ENCODER.HIDDEN_DIM", 32, "MODEL.ENCODER.FEEDFORWARD_DIM", 32, "MODEL.ENCODER.NUM_FUSION_BLOCKS", 1,
        "MODEL.DECODER.FEEDFORWARD_DIM", 32, "MODEL.DECODER.NUM_QUERIES", 20, "MODEL.MASK_HEAD.DIM", 16,
        "MODEL.DENOISING.NUM_QUERIES", 12, "MODEL.LOSS.NUM_POINTS", 64, "MODEL.MATCHER.NUM_POINTS", 64,
        "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 0,
    )
]  # fmt: skip


def _config(name: str, settings: list[object]) -> CfgNode:
    """One of our configs with settings KEY, value, ...; of a key that comes twice the last one counts."""
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.merge_from_file(f"{CONFIG_DIR}/{name}.yaml")
    cfg.merge_from_list(settings)
    return cfg


def _drawn(cfg: CfgNode, seed: int) -> InstanceSegmenter:
    """The model of a config, its weights drawn from a seed, in training mode."""
    torch.manual_seed(seed)
    return build_model(cfg)


def tiny_config(*overrides: object) -> CfgNode:
    """Insta-RT-DETR with a ResNet-18, 32 channels and 5 classes on 64 x 64 images; overrides are KEY, value, ..."""
    return _config("insta_rtdetr_R18vd_D3_640", [
        "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 5, "INPUT.FIXED_SIZE", (64, 64), "INPUT.MULTI_SCALE", (),
        "MODEL.ENCODER.HIDDEN_DIM", 32, "MODEL.ENCODER.FEEDFORWARD_DIM", 32, "MODEL.ENCODER.NUM_FUSION_BLOCKS", 1,
        "MODEL.DECODER.FEEDFORWARD_DIM", 32, "MODEL.DECODER.NUM_QUERIES", 20, "MODEL.MASK_HEAD.DIM", 16,
        "MODEL.DENOISING.NUM_QUERIES", 12, "MODEL.LOSS.NUM_POINTS", 64, "MODEL.MATCHER.NUM_POINTS", 64,
        "SOLVER.AMP.ENABLED", False,
        *overrides,
    ])  # fmt: skip


def tiny_fastinst_config(*overrides: object) -> CfgNode:
    """FastInst-D3 with a ResNet-18, 32 channels and 5 classes; overrides are KEY, value, ..."""
    return _config("fastinst_R50_ppm-fpn_x3_640", [
        "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 5, "MODEL.WEIGHTS", "",
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN",
        "MODEL.ENCODER.HIDDEN_DIM", 32, "MODEL.DECODER.FEEDFORWARD_DIM", 32, "MODEL.DECODER.NUM_QUERIES", 20,
        "MODEL.DECODER.NUM_AUX_QUERIES", 3, "MODEL.MASK_HEAD.DIM", 16,
        "MODEL.LOSS.NUM_POINTS", 64, "MODEL.MATCHER.NUM_POINTS", 64, "SOLVER.AMP.ENABLED", False,
        *overrides,
    ])  # fmt: skip


def tiny_mask_rtdetr_config(*overrides: object) -> CfgNode:
    """Mask-RT-DETR-S with 32 channels, 2 layers and 5 classes on 64 x 64 images; overrides are KEY, value, ..."""
    return _config("mask_rtdetr_hgnetv2_s_640", [
        "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 5, "INPUT.FIXED_SIZE", (64, 64), "INPUT.MULTI_SCALE", (),
        "MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.HGNETV2.NORM", "BN",
        "MODEL.ENCODER.HIDDEN_DIM", 32, "MODEL.ENCODER.FEEDFORWARD_DIM", 32, "MODEL.ENCODER.NUM_FUSION_BLOCKS", 1,
        "MODEL.DECODER.HIDDEN_DIM", 48, "MODEL.DECODER.NUM_LAYERS", 2, "MODEL.DECODER.FEEDFORWARD_DIM", 32,
        "MODEL.DECODER.NUM_QUERIES", 20, "MODEL.MASK_HEAD.DIM", 16, "MODEL.MASK_HEAD.PYRAMID_DIM", 16,
        "MODEL.MASK_HEAD.FEATURE_DIM", 8, "MODEL.DENOISING.NUM_QUERIES", 12,
        "MODEL.LOSS.NUM_POINTS", 64, "MODEL.MATCHER.NUM_POINTS", 64, "SOLVER.AMP.ENABLED", False,
        *overrides,
    ])  # fmt: skip


def tiny_mask_rtdetr(*overrides: object, seed: int = 0) -> InstanceSegmenter:
    """The model of `tiny_mask_rtdetr_config`, its weights drawn from a seed, in training mode."""
    return _drawn(tiny_mask_rtdetr_config(*overrides), seed)


def tiny_fastinst(*overrides: object, seed: int = 0) -> InstanceSegmenter:
    """The model of `tiny_fastinst_config`, its weights drawn from a seed, in training mode."""
    return _drawn(tiny_fastinst_config(*overrides), seed)


def tiny_rfdetr_seg_config(*overrides: object) -> CfgNode:
    """RF-DETR-Seg, 6 blocks, 2 x 2 windows, 32 channels, 3 groups, 5 classes, 48 x 48; overrides are KEY, value, ..."""
    return _config("rfdetr_seg_small_384", [
        "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 5, "MODEL.NUM_UNUSED_CLASSES", 2,
        "INPUT.FIXED_SIZE", (48, 48), "INPUT.MULTI_SCALE", (), "TEST.DETECTIONS_PER_IMAGE", 100,
        "MODEL.TIMM.ARGS", ("embed_dim=32", "depth=6", "num_heads=2"), "MODEL.DINOV2.POSITION_GRID", 4,
        "MODEL.DINOV2.OUT_BLOCKS", (2, 4, 6), "MODEL.ENCODER.IN_FEATURES", ("block2", "block4", "block6"),
        "MODEL.ENCODER.HIDDEN_DIM", 32, "MODEL.ENCODER.NUM_FUSION_BLOCKS", 1, "MODEL.DECODER.NUM_CROSS_HEADS", 8,
        "MODEL.DECODER.NUM_LAYERS", 2, "MODEL.DECODER.FEEDFORWARD_DIM", 32, "MODEL.DECODER.NUM_QUERIES", 10,
        "MODEL.DECODER.NUM_GROUPS", 3, "MODEL.LOSS.NUM_POINTS", 64, "MODEL.MATCHER.NUM_POINTS", 64,
        "SOLVER.AMP.ENABLED", False,
        *overrides,
    ])  # fmt: skip


def tiny_rfdetr_seg(*overrides: object, seed: int = 0) -> InstanceSegmenter:
    """The model of `tiny_rfdetr_seg_config`, its weights drawn from a seed, in training mode."""
    return _drawn(tiny_rfdetr_seg_config(*overrides), seed)


def tiny_maskdino_config(*overrides: object) -> CfgNode:
    """Mask DINO on three levels with a ResNet-18, 32 channels, 2 layers and 5 classes; overrides are KEY, value, ..."""
    return _config("maskdino_R50_bs16_50ep_3s", [
        "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 5, "MODEL.WEIGHTS", "",
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN",
        "MODEL.ENCODER.NUM_LAYERS", 2, "MODEL.ENCODER.HIDDEN_DIM", 32, "MODEL.ENCODER.FEEDFORWARD_DIM", 32,
        "MODEL.DECODER.NUM_LAYERS", 2, "MODEL.DECODER.FEEDFORWARD_DIM", 32, "MODEL.DECODER.NUM_QUERIES", 20,
        "MODEL.MASK_HEAD.DIM", 16, "MODEL.DENOISING.NUM_QUERIES", 12, "INPUT.TRAIN_SIZE", (64, 64),
        "MODEL.LOSS.NUM_POINTS", 64, "MODEL.MATCHER.NUM_POINTS", 64, "SOLVER.AMP.ENABLED", False,
        *overrides,
    ])  # fmt: skip


def tiny_maskdino(*overrides: object, seed: int = 0) -> InstanceSegmenter:
    """The model of `tiny_maskdino_config`, its weights drawn from a seed, in training mode."""
    return _drawn(tiny_maskdino_config(*overrides), seed)


def tiny_sparseinst_config(*overrides: object) -> CfgNode:
    """SparseInst with a ResNet-18, 32 channels, 2 groups of 20 maps and 5 classes; overrides are KEY, value, ..."""
    return _config("sparse_inst_r50_giam", [
        "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 5, "MODEL.WEIGHTS", "",
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN",
        "MODEL.ENCODER.HIDDEN_DIM", 32, "MODEL.DECODER.NUM_LAYERS", 1, "MODEL.DECODER.NUM_QUERIES", 20,
        "MODEL.DECODER.NUM_GROUPS", 2, "MODEL.MASK_HEAD.DIM", 16, "SOLVER.AMP.ENABLED", False,
        *overrides,
    ])  # fmt: skip


def tiny_sparseinst(*overrides: object, seed: int = 0) -> InstanceSegmenter:
    """The model of `tiny_sparseinst_config`, its weights drawn from a seed, in training mode."""
    return _drawn(tiny_sparseinst_config(*overrides), seed)


def tiny_ppyoloe_seg_config(*overrides: object) -> CfgNode:
    """PP-YOLOE_seg an eighth as wide as the size L, 5 classes, 64 x 64 images; overrides are KEY, value, ..."""
    return _config("ppyoloe_seg_s_640", [
        "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 5, "INPUT.FIXED_SIZE", (64, 64), "MODEL.CSPREPRESNET.WIDTH", 0.125,
        "MODEL.CSPREPRESNET.DEPTH", 0.1, "MODEL.ENCODER.HIDDEN_DIM", 24, "MODEL.MASK_HEAD.DIM", 16,
        "MODEL.MASK_HEAD.FEATURE_DIM", 16, "SOLVER.AMP.ENABLED", False,
        *overrides,
    ])  # fmt: skip


def tiny_solov2_config(*overrides: object) -> CfgNode:
    """SOLOv2 with a ResNet-18, 32 channels, grids of 8 to 2 cells and 5 classes; overrides are KEY, value, ..."""
    return _config("solov2_r50_fpn_1x_coco", [
        "MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 5, "MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", 0,
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN",
        "MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ENCODER.HIDDEN_DIM", 32, "MODEL.DECODER.HIDDEN_DIM", 32,
        "MODEL.DECODER.NUM_LAYERS", 1, "MODEL.DECODER.NUM_QUERIES", 20, "MODEL.DECODER.GRID_SIDES", (8, 6, 4, 3, 2),
        "MODEL.MATCHER.SCALE_RANGES", ((1, 12), (6, 24), (12, 48), (24, 96), (48, 256)), "MODEL.MASK_HEAD.DIM", 32,
        *overrides,
    ])  # fmt: skip


def tiny_ppyoloe_seg(*overrides: object, seed: int = 0) -> InstanceSegmenter:
    """The model of `tiny_ppyoloe_seg_config`, its weights drawn from a seed, in training mode."""
    return _drawn(tiny_ppyoloe_seg_config(*overrides), seed)


def tiny_solov2(*overrides: object, seed: int = 0) -> InstanceSegmenter:
    """The model of `tiny_solov2_config`, its weights drawn from a seed, in training mode."""
    return _drawn(tiny_solov2_config(*overrides), seed)


def tiny_paddlex_rcnn_config(*overrides: object) -> CfgNode:
    """PaddleX's Mask R-CNN with a ResNet-18-vd, 16 channels, small anchors, 5 classes; overrides are KEY, value, ..."""
    return _config("mask_rcnn_R50vd_FPN_paddlex", [
        "MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", 5, "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.NORM", "BN",
        "MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16,
        "MODEL.ROI_MASK_HEAD.CONV_DIM", 16, "MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [128]],
        "MODEL.RPN.POST_NMS_TOPK_TRAIN", 50, "MODEL.RPN.POST_NMS_TOPK_TEST", 50,
        *overrides,
    ])  # fmt: skip


def tiny_model(*overrides: object, seed: int = 0) -> InstanceSegmenter:
    """The model of `tiny_config`, its weights drawn from a seed, in training mode."""
    return _drawn(tiny_config(*overrides), seed)


def random_image(height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """(3, height, width), uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def training_input(num_objects: int, height: int = 64, width: int = 64, seed: int = 0) -> dict:
    """One image with rectangles as objects, as the mapper gives it."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (num_objects, 2)) * (width, height)
    size = rng.uniform(0.15, 0.4, (num_objects, 2)) * (width, height)
    boxes = torch.tensor(np.concatenate([corner, corner + size], axis=1)).float().round()
    masks = torch.zeros(num_objects, height, width, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    instances = Instances((height, width))
    instances.gt_boxes, instances.gt_masks = Boxes(boxes.reshape(-1, 4)), BitMasks(masks)
    instances.gt_classes = torch.tensor(rng.integers(0, 5, num_objects))
    return {"image": random_image(height, width, seed), "instances": instances, "height": height, "width": width}
