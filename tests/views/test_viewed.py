"""Evaluation in views: the mapper leaves the image as it is, and the network sees its tiles, flips and sizes."""

import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from insta_rtdetr.data import InstanceMapper
from insta_rtdetr.evaluation import build
from insta_rtdetr.layers.rle_masks import RleMasks
from insta_rtdetr.views import Finder, Tiling, augmentation_of_config, find_in_tiles, find_in_views, with_views
from insta_rtdetr.views.finder import mask_form
from tests import tiny
from tests.predict.conftest import noise
from tests.tiny import tiny_config, tiny_model

TILES = ("TEST.TILE.SIZE", 64, "TEST.TILE.OVERLAP", 0.25)


def test_the_network_sees_tiles_of_the_image_at_its_own_size(tmp_path):
    Image.fromarray(noise(0, 70, 120)).save(tmp_path / "a.png")
    cfg, network = tiny_config(*TILES), tiny_model().eval()
    inputs = InstanceMapper(cfg, is_train=False)({"file_name": str(tmp_path / "a.png"), "image_id": 1})
    assert inputs["image"].shape == (3, 70, 120)
    assemble = network.postprocessor.assemble
    (output,) = with_views(cfg, network)([inputs])
    assert network.postprocessor.assemble is assemble
    with mask_form(network, as_rle=True):
        expected = find_in_tiles(Finder(cfg, network), noise(0, 70, 120), Tiling(64, 0.25))
    found = output["instances"]
    assert isinstance(found.pred_masks, RleMasks) and found.pred_masks.rles == expected.pred_masks.rles
    assert torch.equal(found.scores, expected.scores) and len(found) > 20


FAMILIES = {
    "Insta-RT-DETR": tiny.tiny_config, "FastInst": tiny.tiny_fastinst_config, "Mask DINO": tiny.tiny_maskdino_config,
    "Mask-RT-DETR": tiny.tiny_mask_rtdetr_config, "RF-DETR-Seg": tiny.tiny_rfdetr_seg_config,
    "SparseInst": tiny.tiny_sparseinst_config, "R-CNN": tiny.tiny_paddlex_rcnn_config,
}  # fmt: skip
# Short sides of the network's input; the networks round them up or to the next multiple of their stride.
SIZES = (48, 96)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_sees_flips_and_sizes(family):
    overrides = ("TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", SIZES, "TEST.SCORE_THRESHOLD", 0.0)
    cfg = FAMILIES[family](*overrides, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 10)
    torch.manual_seed(0)
    network = build_model(cfg).eval()
    seen, usual = [], getattr(network, "preprocessor", None) and network.preprocessor.fixed_size
    backbone = network.backbone
    backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[2:]))
    if usual is not None:
        network.fuse_on_eval = False  # The hook is on the network itself.
    (output,) = with_views(cfg, network)([{"image": torch.from_numpy(noise(0, 60, 90)).permute(2, 0, 1)}])
    found = output["instances"]
    assert found.image_size == (60, 90) and isinstance(found.pred_masks, RleMasks) and 0 < len(found) <= 10
    assert (found.scores.diff() <= 0).all()
    assert len(seen) == 4 and seen[0] == seen[1] != seen[2] == seen[3]
    assert all(abs(min(size) - wanted) <= 32 for size, wanted in zip(seen[::2], SIZES, strict=True)), seen
    if usual is not None:
        assert network.preprocessor.fixed_size == usual


def test_the_largest_size_limits_the_long_side_of_a_fixed_size():
    cfg = tiny_config("INPUT.FIXED_SIZE", (64, 128), "TEST.AUG.MAX_SIZE", 192)
    finder = Finder(cfg, tiny_model("INPUT.FIXED_SIZE", (64, 128)).eval())
    for short_side, expected in ((32, (32, 64)), (96, (96, 192)), (500, (96, 192))):
        with finder._fixed_size(short_side):
            assert finder.module.preprocessor.fixed_size == expected


def test_tiles_and_flips_together_are_the_flips_of_each_tile(tmp_path):
    Image.fromarray(noise(0, 70, 120)).save(tmp_path / "a.png")
    cfg, network = tiny_config(*TILES, "TEST.AUG.ENABLED", True), tiny_model().eval()
    inputs = InstanceMapper(tiny_config("TEST.AUG.ENABLED", True), is_train=False)
    inputs = inputs({"file_name": str(tmp_path / "a.png"), "image_id": 1})
    assert inputs["image"].shape == (3, 70, 120)
    (output,) = with_views(cfg, network)([inputs])
    finder, augmentation = Finder(cfg, network), augmentation_of_config(cfg)

    def find(tiles):
        return find_in_views(finder, tiles, augmentation)

    with mask_form(network, as_rle=True):
        expected = find_in_tiles(find, noise(0, 70, 120), Tiling(64, 0.25))
        plain = find_in_tiles(finder, noise(0, 70, 120), Tiling(64, 0.25))
    assert output["instances"].pred_masks.rles == expected.pred_masks.rles != plain.pred_masks.rles


def test_a_viewed_network_keeps_the_mode_of_the_network():
    cfg, network = tiny_config(*TILES), tiny_model()
    assert with_views(cfg, network).training and not with_views(cfg, network.eval()).training
    assert with_views(tiny_config(), network) is network


def test_images_in_tiles_may_have_any_number_of_objects(monkeypatch):
    made = {}
    monkeypatch.setattr(build, "QuietCOCOEvaluator", lambda *args, **options: made.update(options))
    monkeypatch.setattr(build, "has_faster_coco_eval", lambda: False)
    for cfg, limit in ((tiny_config(*TILES), build.ALL_DETECTIONS), (tiny_config("TEST.DETECTIONS_PER_IMAGE", 7), 7)):
        build.build_evaluator(cfg, "coco_2017_val")
        assert made["max_dets_per_image"] == limit
