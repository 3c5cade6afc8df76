"""Evaluation in tiles: the mapper leaves the image as it is, and the network sees it in tiles."""

import torch
from PIL import Image

from insta_rtdetr.data import InstanceMapper
from insta_rtdetr.evaluation import build
from insta_rtdetr.layers.rle_masks import RleMasks
from insta_rtdetr.views import Finder, Tiling, find_in_tiles, with_views
from insta_rtdetr.views.finder import mask_form
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
