"""The plan of a training: its completed and checked config, its data and its options."""

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
        cfg: the completed config.
        file_cfg: the config as its file has it.
        given: keys that the user has set.
        data: the datasets.
        name: name of the config, which is displayed.
        options: options that are not in the config.
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
    """Set the recipe and the weights for the user's dataset, if there is one, and check everything.

    Args:
        cfg: the config with all keys that the user has set; it is changed.
        file_cfg: the config as its file has it.
        given: keys that the user has set.
        options: options that are not in the config.
        name: name of the config, which is displayed.
        weights: weights from which training on the user's dataset starts unless MODEL.WEIGHTS is among `given`; empty
            for MODEL.WEIGHTS of the config.

    Raises:
        UserError: see `insta_rtdetr.engine.checks.check`.
    """
    # A number of iterations from the user, or epochs in the config file, are a schedule, which replaces the recipe.
    if options.dataset and not file_cfg.SOLVER.MAX_EPOCHS and "SOLVER.MAX_ITER" not in given:
        use_recipe(cfg, given)
    if options.dataset and weights and "MODEL.WEIGHTS" not in given:
        cfg.MODEL.WEIGHTS = weights
    data = check(cfg, options, file_cfg, given)
    if options.num_processes > 1:
        data.train.clear()  # too large to pass to other processes; each loads its own
    return TrainingPlan(cfg, file_cfg, given, data, name, options)


def starting_weights(cfg: CfgNode, config_file: str) -> str:
    """Find the weights to fine-tune from if the user names none.

    Returns:
        the first that exist of: the published weights of the config file, MODEL.WEIGHTS of the config, the published
        weights of its backbone alone; empty if there are none.
    """
    published = published_weights(find_config(config_file)) if config_file else ""
    return published or cfg.MODEL.WEIGHTS or backbone_weights(cfg)
