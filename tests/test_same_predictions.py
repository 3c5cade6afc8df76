"""Detectron2's own predictor gives the very same objects as this package's mapper, checkpointer and model."""

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.env import seed_all_rng
from PIL import Image

from insta_rtdetr import create_model
from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.data import InstanceMapper
from insta_rtdetr.engine import Trainer
from insta_rtdetr.predict import Model
from tests.engine.tiny_training import register_dataset, write_dataset
from tests.tiny import tiny_config

DATASET = "tiny_same_predictions"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[CfgNode, dict, dict]:
    """The config of a finished run with EMA, the averaged weights, and those that were trained."""
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(folder)
    register_dataset(DATASET, folder)
    cfg = tiny_config(
        "DATASETS.TRAIN", (DATASET,), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2,
        "SOLVER.MAX_ITER", 3, "SOLVER.WARMUP_ITERS", 0, "SOLVER.BASE_LR", 0.01, "SOLVER.EMA.RAMP_ITERS", 1,
        "OUTPUT_DIR", str(folder / "out"),
    )  # fmt: skip
    seed_all_rng(3)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.MODEL.WEIGHTS = str(folder / "out" / "model_final.pth")
    return cfg, trainer.ema.state_dict()["model"], trainer.raw_model.state_dict()


@pytest.fixture(scope="module")
def photograph(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("photograph") / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((130, 91), Image.Resampling.BICUBIC).save(file)
    return str(file)


def our_objects(cfg: CfgNode, file: str) -> Instances:
    model = build_model(cfg).eval()
    Checkpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    height, width = read_image(file).shape[:2]
    return model([InstanceMapper(cfg, is_train=False)({"file_name": file, "height": height, "width": width})])[0][
        "instances"
    ]


def assert_same(left: Instances, right: Instances) -> None:
    assert left.image_size == right.image_size and len(left) == len(right) > 0
    assert torch.equal(left.pred_boxes.tensor, right.pred_boxes.tensor)
    for name in ("scores", "pred_classes", "pred_masks"):
        assert torch.equal(left.get(name), right.get(name)), name


@pytest.mark.parametrize(
    "overrides",
    [
        ["INPUT.FIXED_SIZE", (64, 96)],
        ["INPUT.FIXED_SIZE", (), "INPUT.MIN_SIZE_TEST", 64],
        ["INPUT.FIXED_SIZE", (), "INPUT.MIN_SIZE_TEST", 0, "INPUT.FORMAT", "BGR"],
    ],
)
def test_detectron2s_predictor_gives_the_very_same_objects(trained, photograph, overrides):
    cfg = trained[0].clone()
    cfg.merge_from_list(overrides)
    ours = our_objects(cfg, photograph)
    image_bgr = read_image(photograph, format="BGR")
    assert_same(DefaultPredictor(cfg)(image_bgr)["instances"], ours)
    (result,) = Model(cfg).predict(photograph, threshold=0)
    assert_same(result.instances, ours)


def test_a_checkpoint_of_a_training_says_which_model_it_is(trained, photograph):
    (result,) = create_model(trained[0].MODEL.WEIGHTS).predict(photograph, threshold=0)
    assert_same(result.instances, our_objects(trained[0], photograph))


def test_both_use_the_averaged_weights(trained, photograph, tmp_path):
    cfg, averages, last = trained[0].clone(), *trained[1:]
    image_bgr = read_image(photograph, format="BGR")
    found = DefaultPredictor(cfg)(image_bgr)["instances"]
    for weights, is_same in ((averages, True), (last, False)):
        cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
        torch.save({"model": weights}, cfg.MODEL.WEIGHTS)
        assert torch.equal(our_objects(cfg, photograph).scores, found.scores) is is_same
