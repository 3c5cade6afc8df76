"""Functions of the trainer that depend on the stage of a training (MODEL.STAGE)."""

from detectron2.config import CfgNode
from torch import nn

from insta_rtdetr.errors import UserError
from insta_rtdetr.evaluation.table import TASKS
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter


def best_metric(cfg: CfgNode) -> str:
    """Return TEST.BEST_METRIC, or the same metric of boxes in the stage without masks."""
    name = cfg.TEST.BEST_METRIC
    return name.replace("segm/", "bbox/") if cfg.MODEL.STAGE == "detector" else name


def metric_name(metric: str) -> str:
    """Return the displayed name of one of Detectron2's metrics: "segm/AP50" is mask AP50."""
    prefix, _, name = metric.rpartition("/")
    task = prefix.rpartition("/")[2]
    return f"{TASKS[task]} {name}" if task in TASKS else metric


def check_stage(cfg: CfgNode, model: nn.Module) -> None:
    """Check that a model can be trained in the config's stage.

    Raises:
        UserError: the stage is not "joint", and the model is not one of this package.
    """
    if cfg.MODEL.STAGE != "joint" and not isinstance(model, InstanceSegmenter):
        name = type(model).__name__
        raise UserError(f"MODEL.STAGE is {cfg.MODEL.STAGE}, but {name} is not a model of stages.  Set it to joint.")


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Count the parameters that are trained, and those that are not."""
    counts = {True: 0, False: 0}
    for parameter in model.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    return counts[True], counts[False]


def check_detector(model: InstanceSegmenter, unloaded: set[str], weights: str) -> None:
    """Check that the weights of the detector were loaded before its masks are trained.

    Args:
        model: the model.
        unloaded: names of the model's tensors that the weights did not fill.
        weights: MODEL.WEIGHTS, for the message.

    Raises:
        UserError: a tensor outside the mask branch was not loaded.
    """
    detector = [name for name in model.state_dict() if not model.is_of_mask_branch(name)]
    if lacking := [name for name in detector if name in unloaded]:
        raise UserError(
            f"MODEL.STAGE masks needs a trained detector, but {weights or 'no file'} lacks {len(lacking)} of its "
            f"{len(detector)} tensors, for example {lacking[-1]}.  Set MODEL.WEIGHTS to what MODEL.STAGE detector or "
            "joint trained on these classes."
        )
