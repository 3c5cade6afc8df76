"""create_model: by name, path, checkpoint or config, of this package and of Detectron2."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2 import model_zoo

import insta_rtdetr.predict.create as create_module
from insta_rtdetr import create_model
from insta_rtdetr.engine.setup import setup_cfg
from insta_rtdetr.errors import CheckpointError, UserError
from insta_rtdetr.predict.create import model_config
from insta_rtdetr.predict.model import build_module
from tests.predict.conftest import noise
from tests.tiny import CASCADE_MASK_RCNN, MASK_RCNN, SMALL_RCNN, tiny_config, tiny_model

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "demo/weights/quickstart_MNV2_D3_256.pth"


@pytest.mark.parametrize("name", ["quickstart_MNV2_D3_256", str(SHIPPED)])
def test_the_shipped_checkpoint_is_made_by_its_name_and_by_its_path(name):
    model = create_model(name)
    assert Path(model.cfg.MODEL.WEIGHTS) == SHIPPED and model.cfg.INPUT.FIXED_SIZE == (256, 256)
    assert model.categories.names == ("coin", "cell", "triangle", "square")
    assert model.module.device.type == "cpu" and not model.module.training


def test_a_checkpoint_that_holds_its_config_and_its_class_names_needs_no_other(tmp_path):
    content = {
        "model": tiny_model().state_dict(),
        "config": tiny_config("TEST.DETECTIONS_PER_IMAGE", 7).dump(),
        "class_names": ["one", "two", "three", "four", "five"],
    }
    torch.save(content, tmp_path / "mine.pth")
    model = create_model(tmp_path / "mine.pth")
    assert model.cfg.TEST.DETECTIONS_PER_IMAGE == 7 and model.categories.names[4] == "five"
    (result,) = model.predict(noise(0), threshold=0)
    assert len(result) == 7 and set(result.class_names) <= set(content["class_names"])


def test_config_objects_and_options_are_taken(model_folder):
    weights = str(model_folder / "tiny.pth")
    for cfg, opts in ((tiny_config("MODEL.WEIGHTS", weights), []), (tiny_config(), ["MODEL.WEIGHTS", weights])):
        model = create_model(cfg, opts=["TEST.DETECTIONS_PER_IMAGE", 3, *opts])
        assert len(next(model.predict(noise(0), threshold=0))) == 3
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 100 and cfg.MODEL.WEIGHTS == ""


@pytest.mark.parametrize("name", [MASK_RCNN, CASCADE_MASK_RCNN])
def test_models_of_detectron2s_zoo_go_the_same_way(name, tmp_path):
    torch.manual_seed(0)
    module = build_module(setup_cfg(name, [*SMALL_RCNN, "MODEL.DEVICE", "cpu"]))
    torch.save({"model": module.state_dict()}, tmp_path / "small.pth")
    model = create_model(name, tmp_path / "small.pth", opts=SMALL_RCNN)
    images = [noise(0), noise(1, 60, 50), noise(2)]
    together = list(model.predict(images, threshold=0, batch_size=3))
    assert [len(result) > 0 for result in together] == [True] * 3
    for image, result in zip(images, together):
        (alone,) = model.predict(image, threshold=0)
        assert alone.masks.shape == (len(alone), *image.shape[:2]) and alone.masks.dtype == bool
        np.testing.assert_allclose(alone.scores, result.scores, atol=1e-5)
        assert (alone.masks != result.masks).mean() < 1e-3
    kept = float(sorted(alone.scores)[len(alone) // 2])
    assert 0 < len(next(model.predict(image, threshold=kept))) < len(alone)


def test_the_zoos_weights_are_the_default_of_its_models(monkeypatch):
    cfg = model_config(MASK_RCNN, "", [])
    assert model_zoo.get_checkpoint_url(f"{MASK_RCNN}.yaml") == cfg.MODEL.WEIGHTS
    assert cfg.MODEL.WEIGHTS.endswith("model_final_f10217.pkl")
    monkeypatch.setattr(create_module, "published_weights", lambda config_file: "")
    with pytest.raises(UserError, match="no trained weights for COCO"):
        model_config(MASK_RCNN, "", [])


@pytest.mark.parametrize(
    "model, weights, parts",
    [
        ("insta_rtdetr_R50vd_D6_64", "", ["insta_rtdetr_R50vd_D6_64 not found", "insta_rtdetr_R50vd_D6_640"]),
        ("absent.yaml", "", ["absent.yaml"]),
        ("absent.pth", "", ["absent.pth"]),
        ("insta_rtdetr_R18vd_D3_640", "", ["no trained weights", "insta_rtdetr_R18vd_D3_640"]),
        ("fastinst_R50_ppm-fpn_x3_1024", "", ["no trained weights", "fastinst_R50_ppm-fpn_x3_1024"]),
        ("quickstart_MNV2_D3_256", "absent.pth", ["absent.pth"]),
        (SHIPPED, "other.pth", ["other.pth", "both checkpoints"]),
        ("tiny.pth", "", ["tiny.pth", "which model"]),
        (3, "", ["int", "wanted a name"]),
    ],
)
def test_a_wrong_model_is_named(model, weights, parts, model_folder, monkeypatch):
    monkeypatch.chdir(model_folder)
    with pytest.raises((UserError, CheckpointError)) as caught:
        create_model(model, weights)
    for part in parts:
        assert part in str(caught.value), caught.value


def test_another_number_of_classes_than_the_checkpoints_is_refused(tmp_path):
    torch.save({"model": tiny_model().state_dict(), "class_names": ["cat", "dog"]}, tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"two.pth was trained for 2 other classes \(cat, dog\), the config is for 5"):
        create_model(tiny_config(), tmp_path / "two.pth")
