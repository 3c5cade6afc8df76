"""Tests of training in two stages, boxes first and then masks alone: what each stage changes, and what it must not."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.engine import Trainer
from insta_rtdetr.errors import CheckpointError, DatasetError, UserError
from insta_rtdetr.modeling.postprocessing import MaskScoringPostprocessor
from tests.engine.tiny_training import register_dataset, write_dataset
from tests.tiny import (
    tiny_config,
    tiny_fastinst_config,
    tiny_mask_rtdetr_config,
    tiny_maskdino_config,
    tiny_rfdetr_seg_config,
    training_input,
)

CONFIGS = {
    "insta_rtdetr": lambda *more: tiny_config("MODEL.MASK_HEAD.BOX_PRIOR", True, "MODEL.LOSS.QUALITY", "mask", *more),
    "mask_rtdetr": lambda *more: tiny_mask_rtdetr_config("MODEL.DECODER.MASK_ENHANCED_BOXES", False, *more),
    "maskdino": lambda *more: tiny_maskdino_config(
        "MODEL.DECODER.MASK_ENHANCED_BOXES", False, "SOLVER.EMA.ENABLED", True, *more
    ),
    "rfdetr_seg": tiny_rfdetr_seg_config,
}
IMAGES = [training_input(3, 48, 64, seed=5), training_input(2, 64, 40, seed=6)]


class Killed(Exception):
    pass


def config(name: str, folder: Path, stage: str, *more: object) -> CfgNode:
    """Train four steps on two images each, which have no masks in the stage of the detector."""
    dataset = f"stage_{'boxes' if stage == 'detector' else 'masks'}"
    register_dataset(dataset, folder / dataset)
    return CONFIGS[name](
        "MODEL.STAGE", stage, "DATASETS.TRAIN", (dataset,), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0,
        "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "SOLVER.STEPS", (), "SOLVER.CHECKPOINT_PERIOD", 2,
        "SOLVER.EMA.RAMP_ITERS", 2, "SOLVER.WARMUP_ITERS", 0, "SOLVER.BASE_LR", 0.003, "SEED", 3,
        "INPUT.MIN_OBJECT_SIZE", 1.0, "OUTPUT_DIR", str(folder / name / stage), *more,
    )  # fmt: skip


def train(cfg: CfgNode, resume: bool = False, kill_in_iteration: int | None = None) -> Trainer:
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    run_step = trainer._trainer.run_step

    def step() -> None:
        if trainer.iter == kill_in_iteration:
            raise Killed
        run_step()

    trainer._trainer.run_step = step
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    for dataset in ("stage_boxes", "stage_masks"):
        (folder / dataset).mkdir()
        file = write_dataset(folder / dataset)
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (folder / "stage_boxes" / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module", params=CONFIGS)
def trained(request, folder) -> tuple[str, Trainer, Trainer]:
    """Return the name of a model and its trainers of both stages, each of which was killed once and resumed."""
    trainers, weights = [], ()
    with pytest.MonkeyPatch.context() as patch:
        # Drawing the curves takes longer than the four steps.
        patch.setattr("insta_rtdetr.engine.hooks.draw_curves", lambda *_: None)
        for stage in ("detector", "masks"):
            cfg = config(request.param, folder, stage, *weights)
            with pytest.raises(Killed):
                train(cfg, kill_in_iteration=3)
            trainers.append(train(cfg, resume=True))
            weights = "MODEL.WEIGHTS", str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    return request.param, *trainers


def read(trainer: Trainer) -> dict:
    return torch.load(Path(trainer.cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True)


def predict(cfg: CfgNode, weights: str, stage: str) -> tuple[list, torch.Tensor | None]:
    """Return the objects found in the images, and the mask logits of all queries in the first image."""
    cfg = cfg.clone()
    cfg.MODEL.STAGE = stage
    model = build_model(cfg).eval()
    Checkpointer(model).load(weights)
    return [result["instances"] for result in model(IMAGES)], model.forward_raw(IMAGES[:1]).get("mask_logits")


def test_a_killed_stage_goes_on(trained):
    for trainer in trained[1:]:
        assert trainer.start_iter == 2 and read(trainer)["ema"]["updates"] == 4


def found(instances, with_scores: bool) -> list[tuple]:
    """Return box, class and, if wanted, score of every object, in the order of the boxes."""
    scores = instances.scores.tolist() if with_scores else [None] * len(instances)
    return sorted(zip(instances.pred_boxes.tensor.tolist(), instances.pred_classes.tolist(), scores, strict=True))


def test_boxes_are_the_same_bit_for_bit_before_and_after_the_mask_stage(trained):
    _, detector, masks = trained
    before, after = (f"{trainer.cfg.OUTPUT_DIR}/model_final.pth" for trainer in (detector, masks))
    boxes_alone, no_masks = predict(masks.cfg, before, "detector")
    untrained, first_masks = predict(masks.cfg, before, "joint")
    joint, last_masks = predict(masks.cfg, after, "joint")
    # If scores depend on masks, the same boxes get other scores.
    with_scores = not isinstance(masks.raw_model.postprocessor, MaskScoringPostprocessor)
    for alone, first, last in zip(boxes_alone, untrained, joint, strict=True):
        assert not alone.has("pred_masks") and first.has("pred_masks") and len(alone) > 0
        for other in (first, last):
            assert found(alone, with_scores) == found(other, with_scores)
    assert no_masks is None and not torch.equal(first_masks, last_masks)


def test_each_stage_changes_its_own_part_alone(trained):
    _, detector, masks = trained
    model = masks.raw_model
    detected, masked = read(detector), read(masks)
    for name, value in detected["model"].items():
        if not model.is_of_mask_branch(name):
            assert torch.equal(masked["model"][name], value) and torch.equal(masked["raw_model"][name], value), name
    of_masks = [name for name, _ in model.named_parameters() if model.is_of_mask_branch(name)]
    assert of_masks and all(not torch.equal(masked["raw_model"][name], detected["model"][name]) for name in of_masks)
    assert all(not torch.equal(masked["model"][name], masked["raw_model"][name]) for name in of_masks)
    # The detector's stage has not changed the initial mask branch, and has saved it.
    assert all(torch.equal(detected["model"][name], detected["raw_model"][name]) for name in of_masks)
    trained_boxes = [name for name in detected["model"] if name.startswith("decoder.box_head")]
    assert all(not torch.equal(detected["model"][name], detected["raw_model"][name]) for name in trained_boxes)


def test_what_is_frozen_has_no_gradient_and_no_optimizer_state(trained):
    for trainer, learns_masks in zip(trained[1:], (False, True)):
        model = trainer.raw_model.train()
        for name, parameter in model.named_parameters():
            is_trained = model.is_of_mask_branch(name) == learns_masks
            assert (parameter.grad is not None) == parameter.requires_grad == is_trained, name
        num_trained = sum(parameter.requires_grad for parameter in model.parameters())
        optimizer = read(trainer)["trainer"]["_trainer"]["optimizer"]
        num_known = sum(len(group["params"]) for group in optimizer["param_groups"])
        assert len(optimizer["state"]) == num_trained == num_known
        modes = {name: module.training for name, module in model.named_modules() if name}
        network = {name: mode for name, mode in modes.items() if "." in name and not name.startswith("criterion")}
        assert all(mode == (model.is_of_mask_branch(name) == learns_masks) for name, mode in network.items())


def test_the_average_of_what_is_frozen_is_no_copy(trained):
    _, _, masks = trained
    state, average = masks.raw_model.state_dict(), masks.ema.state_dict()["model"]
    assert state.keys() == average.keys()
    for name, tensor in average.items():
        assert (tensor.data_ptr() == state[name].data_ptr()) != masks.raw_model.is_of_mask_branch(name), name


def test_joint_training_goes_on_from_a_detector(trained, folder):
    name, detector, _ = trained
    weights = f"{detector.cfg.OUTPUT_DIR}/model_final.pth"
    trainer = Trainer(config(name, folder, "joint", "MODEL.WEIGHTS", weights))
    trainer.resume_or_load(resume=False)
    found = trainer.raw_model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in read(detector)["model"].items())
    assert not [name for name, parameter in trainer.raw_model.named_parameters() if not parameter.requires_grad]


def test_masks_need_a_whole_detector(folder, tmp_path):
    model = build_model(config("insta_rtdetr", folder, "joint"))
    weights = model.state_dict()
    lacking = {
        "backbone": {name: value for name, value in weights.items() if name.startswith("backbone.")},
        "one head": {name: value for name, value in weights.items() if name != "decoder.box_heads.2.layers.2.bias"},
        "two classes": {
            name: value[:2] if "class_head" in name else value[:3] if "label_embedding" in name else value
            for name, value in weights.items()
        },
    }
    for kind, state in lacking.items():
        torch.save({"model": state}, tmp_path / "weights.pth")
        cfg = config("insta_rtdetr", folder, "masks", "MODEL.WEIGHTS", str(tmp_path / "weights.pth"))
        cfg.OUTPUT_DIR = str(tmp_path / "out")
        with pytest.raises(UserError, match=r"needs a trained detector, but .*weights\.pth lacks"):
            train(cfg)
        assert not list((tmp_path / "out").glob("*.pth")), kind


def test_another_stage_is_not_resumed(trained, folder):
    name, detector, _ = trained
    cfg = config(name, folder, "masks", "OUTPUT_DIR", detector.cfg.OUTPUT_DIR)
    with pytest.raises(CheckpointError, match=r"MODEL\.STAGE detector, not masks\. Set another"):
        Trainer(cfg).resume_or_load(resume=True)


def test_masks_need_data_with_masks(folder):
    cfg = config("insta_rtdetr", folder, "detector", "MODEL.STAGE", "joint")
    with pytest.raises(DatasetError, match=r"none of its 4 objects has a mask\.  Add masks, or set MODEL\.STAGE"):
        Trainer(cfg)


@pytest.mark.parametrize(
    "cfg, message",
    [
        (tiny_fastinst_config("MODEL.STAGE", "detector"), "MODEL.STAGE is detector, but FastInst has no box head"),
        (tiny_mask_rtdetr_config("MODEL.STAGE", "detector"), "MODEL.DECODER.MASK_ENHANCED_BOXES False in both stages"),
        (tiny_config("MODEL.STAGE", "boxes"), "MODEL.STAGE must be one of joint, detector, masks, got 'boxes'"),
    ],
)
def test_stages_that_a_model_has_not_are_named(cfg, message):
    with pytest.raises(UserError, match=message):
        Trainer.build_model(cfg)
