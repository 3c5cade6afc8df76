"""A training that was asked for, with its config completed and checked."""

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode

from insta_rtdetr.zoo import backbone_weights, find_config, published_weights

from .checks import CheckedData, RunOptions, check
from .recipe import use_recipe


@dataclass(frozen=True)
class TrainingPlan:
    """A training whose config and data have been checked.

    Attributes:
        cfg: its config.
        file_cfg: what the config file says.
        given: keys that the user has set.
        data: its datasets.
        name: of the config, for people.
        options: what else is asked.
    """

    cfg: CfgNode
    file_cfg: CfgNode
    given: Sequence[str]
    data: CheckedData
    name: str
    options: RunOptions


def make_plan(
    cfg: CfgNode, file_cfg: CfgNode, given: Sequence[str], options: RunOptions, name: str, weights: str = ""
) -> TrainingPlan:
    """Set the recipe and the weights for a dataset of the user's, and check everything.

    Args:
        cfg: with all that the user has set.
        file_cfg: what the config file says.
        given: keys that the user has set.
        options: what else is asked.
        name: of the config, for people.
        weights: what a dataset of the user's is learnt from, unless MODEL.WEIGHTS is given; empty for MODEL.WEIGHTS
            of the config.

    Raises:
        UserError: see `insta_rtdetr.engine.checks.check`.
    """
    # Who counts iterations, or has epochs in the config file, has a schedule.
    if options.dataset and not file_cfg.SOLVER.MAX_EPOCHS and "SOLVER.MAX_ITER" not in given:
        use_recipe(cfg, given)
    if options.dataset and weights and "MODEL.WEIGHTS" not in given:
        cfg.MODEL.WEIGHTS = weights
    data = check(cfg, options, file_cfg, given)
    if options.num_processes > 1:
        data.train.clear()  # too much to hand over: each process loads its own
    return TrainingPlan(cfg, file_cfg, given, data, name, options)


def starting_weights(cfg: CfgNode, config_file: str) -> str:
    """Find the weights to fine-tune from if the user names none.

    Returns:
        The published weights of the config file; without any, MODEL.WEIGHTS of the config; without those, the weights
        of its backbone alone; empty if none are known.
    """
    published = published_weights(find_config(config_file)) if config_file else ""
    return published or cfg.MODEL.WEIGHTS or backbone_weights(cfg)
