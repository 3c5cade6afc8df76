"""Tests of the recipe and the weights of a training on the user's dataset."""

import pickle
from pathlib import Path

import pytest

from insta_rtdetr.engine import RunOptions, TrainingPlan, make_plan, setup_cfg
from insta_rtdetr.engine.plan import starting_weights
from tests.data import trees

SHIPPED = Path(__file__).resolve().parents[2] / "demo" / "weights"
QUICK = "quickstart_MNV2_D3_256"


@pytest.fixture
def plan(tmp_path):
    """Return a function that makes the plan of a training on a dataset of two images."""
    data = trees.write_yolo(tmp_path / "cups")

    def plan(config: str, *overrides: object, dataset: str = str(data)) -> TrainingPlan:
        overrides = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path / "out"), *overrides]
        cfg = setup_cfg(config, overrides, dataset, announce=False)
        weights = starting_weights(cfg, config)
        return make_plan(cfg, setup_cfg(config, []), overrides[::2], RunOptions(dataset), config, weights)

    return plan


def test_it_starts_from_the_published_weights_of_the_config_with_the_recipe(plan):
    cfg = plan(QUICK).cfg
    assert Path(cfg.MODEL.WEIGHTS) == SHIPPED / f"{QUICK}.pth"
    assert cfg.SOLVER.MAX_EPOCHS == cfg.SOLVER.MAX_ITER == 50 and cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupCosineLR"


@pytest.mark.parametrize(
    "config, address",
    [
        ("insta_rtdetr_R50vd_D6_640", "published://insta_rtdetr_R50vd_D6_640"),
        # The config names weights of a backbone, and weights of the whole model are published.
        ("fastinst_R50_ppm-fpn_x1_576", "published://fastinst_R50_ppm-fpn_x1_576"),
        # No weights are published for these.
        ("insta_rtdetr_R18vd_D3_640", "published://resnet18vd"),
        ("insta_rtdetr_mobilenetv2_D3_640", "published://mobilenetv2_100_timm"),
    ],
)
def test_published_weights_come_before_those_of_the_backbone(config, address):
    assert starting_weights(setup_cfg(config, []), config) == address


def test_a_config_file_of_the_users_keeps_its_weights(tmp_path):
    (tmp_path / "mine.yaml").write_text(setup_cfg(QUICK, ["MODEL.WEIGHTS", "mine.pth"]).dump())
    file = str(tmp_path / "mine.yaml")
    assert starting_weights(setup_cfg(file, []), file) == "mine.pth"


def test_from_scratch_if_the_user_says_so(plan):
    assert plan(QUICK, "MODEL.WEIGHTS", "").cfg.MODEL.WEIGHTS == ""


def test_who_counts_iterations_keeps_the_schedule_of_the_config(plan):
    before = setup_cfg(QUICK, [])
    solver = plan(QUICK, "SOLVER.MAX_ITER", 20).cfg.SOLVER
    assert solver.MAX_ITER == 20 and solver.EMA == before.SOLVER.EMA and solver.STEPS == before.SOLVER.STEPS


def test_a_config_file_that_counts_epochs_keeps_its_schedule(plan, tmp_path):
    overrides = ["SOLVER.MAX_EPOCHS", 8, "SOLVER.EARLY_STOPPING.PATIENCE", 3]
    (tmp_path / "mine.yaml").write_text(setup_cfg(QUICK, overrides).dump())
    solver = plan(str(tmp_path / "mine.yaml"), "MODEL.WEIGHTS", "").cfg.SOLVER
    assert (solver.MAX_EPOCHS, solver.MAX_ITER, solver.EARLY_STOPPING.PATIENCE) == (8, 8, 3)
    assert solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR"


def test_the_datasets_of_the_config_have_no_recipe(plan, tmp_path):
    plan(QUICK)  # registers cups
    datasets = ["DATASETS.TRAIN", ("cups_train",), "DATASETS.TEST", ("cups_val",), "MODEL.NUM_CLASSES", 2]
    cfg = plan(QUICK, *datasets, dataset="").cfg
    assert cfg.SOLVER == setup_cfg(QUICK, []).SOLVER and cfg.MODEL.WEIGHTS == ""


def test_a_plan_can_be_handed_to_processes(plan):
    made = plan(QUICK)
    assert pickle.loads(pickle.dumps(made)).cfg == made.cfg and len(made.data.train) == 2
    assert made.data.sizes == {"cups_train": (2, 4), "cups_val": (2, 4)}
