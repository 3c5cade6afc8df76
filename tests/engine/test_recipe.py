"""Tests of schedules in epochs and of the recipe for the user's dataset, which keep the keys that the user sets."""

import pytest

from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.engine.recipe import set_schedule, use_recipe

FILE_ITERATIONS = 1000


def scheduled(num_images: int, *overrides: object, recipe: bool = False):
    """Return a config with batches of 4 and 1,000 iterations, with the schedule set for a number of images."""
    words = ["SOLVER.IMS_PER_BATCH", 4, "SOLVER.STEPS", (800, 900), "SOLVER.WARMUP_ITERS", 100,
             "INPUT.PLAIN_LAST_ITERS", 50, "SOLVER.EMA.DECAY", 0.99, "SOLVER.EMA.RAMP_ITERS", 100]  # fmt: skip
    cfg = setup_cfg("", [*words, *overrides])
    if recipe:
        cfg.DATASETS.TEST = ("some",)
        use_recipe(cfg, overrides[::2])
    set_schedule(cfg, FILE_ITERATIONS, num_images, overrides[::2])
    return cfg


def test_an_epoch_ends_with_an_evaluation_and_a_checkpoint():
    cfg = scheduled(10, "SOLVER.MAX_EPOCHS", 40)
    # Ten images in batches of four are three iterations.
    assert cfg.SOLVER.MAX_ITER == 120 and cfg.TEST.EVAL_PERIOD == cfg.SOLVER.CHECKPOINT_PERIOD == 3


def test_the_schedule_keeps_the_shares_of_the_config_file_and_short_runs_are_fitted():
    cfg = scheduled(8, "SOLVER.MAX_EPOCHS", 100)  # 200 iterations, a fifth of the file's
    assert cfg.SOLVER.STEPS == (160, 180) and cfg.INPUT.PLAIN_LAST_ITERS == 10
    assert cfg.SOLVER.WARMUP_ITERS == 10 and cfg.SOLVER.EMA.RAMP_ITERS == 20
    assert pytest.approx(0.95) == cfg.SOLVER.EMA.DECAY


def test_a_long_run_keeps_warm_up_and_average_of_the_config_file():
    cfg = scheduled(8, "SOLVER.MAX_EPOCHS", 2000)
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.EMA.DECAY, cfg.SOLVER.EMA.RAMP_ITERS) == (100, 0.99, 100)
    assert cfg.SOLVER.STEPS == (3200, 3600)


@pytest.mark.parametrize(
    "key, value",
    [
        ("SOLVER.MAX_ITER", 77), ("SOLVER.STEPS", (5,)), ("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"),
        ("SOLVER.WARMUP_ITERS", 99), ("TEST.EVAL_PERIOD", 7),
        ("SOLVER.CHECKPOINT_PERIOD", 8), ("SOLVER.EMA.RAMP_ITERS", 90), ("INPUT.PLAIN_LAST_ITERS", 60),
        ("SOLVER.EARLY_STOPPING.PATIENCE", 2), ("SOLVER.EMA.ENABLED", False), ("SOLVER.MAX_EPOCHS", 3),
    ],
)  # fmt: skip
def test_keys_that_the_user_sets_win(key, value):
    node, _, name = key.rpartition(".")
    cfg = scheduled(8, "SOLVER.MAX_EPOCHS", 10, key, value, recipe=True)
    for part in node.split("."):
        cfg = cfg[part]
    assert cfg[name] == value


def test_the_recipe_is_fifty_epochs_along_a_cosine_with_average_and_early_stopping():
    solver = scheduled(400, recipe=True).SOLVER
    assert solver.MAX_ITER == 50 * 100 and solver.LR_SCHEDULER_NAME == "WarmupCosineLR"
    assert solver.EMA.ENABLED and solver.EARLY_STOPPING.PATIENCE == 15
    assert (solver.WARMUP_ITERS, solver.EMA.RAMP_ITERS, solver.EMA.DECAY) == (250, 500, 0.998)


def test_iterations_given_beside_epochs_are_the_length():
    cfg = scheduled(400, "SOLVER.MAX_EPOCHS", 50, "SOLVER.MAX_ITER", 300)
    assert cfg.SOLVER.MAX_ITER == 300 and cfg.TEST.EVAL_PERIOD == 100 and cfg.SOLVER.EMA.RAMP_ITERS == 30


def test_without_evaluations_nothing_stops_early():
    cfg = scheduled(400, "TEST.EVAL_PERIOD", 0, recipe=True)
    assert cfg.SOLVER.EARLY_STOPPING.PATIENCE == 0 and cfg.TEST.EVAL_PERIOD == 0


def test_the_recipe_twice_is_the_recipe_once():
    cfg = scheduled(400, recipe=True)
    before = cfg.clone()
    use_recipe(cfg, ())
    set_schedule(cfg, cfg.SOLVER.MAX_ITER, 400, ())
    assert cfg == before
