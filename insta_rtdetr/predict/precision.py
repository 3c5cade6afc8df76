"""Half precision for backbone and encoder of a model."""

import logging

import torch
from torch import nn

from insta_rtdetr.errors import UserError
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from insta_rtdetr.processor import instruction_sets, multiplies_bfloat16

logger = logging.getLogger(__name__)

PRECISIONS = ("fp32", "bf16")


def use_precision(module: nn.Module, precision: str) -> str:
    """Set the precision of backbone and encoder of a model of this package; the rest stays in float32.

    Args:
        module: the meta-architecture, on its device.
        precision: one of `PRECISIONS`.

    Returns:
        the precision that is used.  If the processor cannot multiply bfloat16 it is "fp32", with a warning.

    Raises:
        UserError: the precision is unknown, or it is not "fp32" and the model is not one of this package.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}, wanted one of {', '.join(PRECISIONS)}.")
    if precision == "fp32":
        return precision
    if not isinstance(module, InstanceSegmenter):
        raise UserError(f"precision is {precision}, which {type(module).__name__} does not have.  Leave it out.")
    if module.device.type == "cpu" and not multiplies_bfloat16():
        found = ", ".join(instruction_sets())
        logger.warning(f"precision is {precision}, but the processor has {found}, no BF16: it computes in float32")
        return "fp32"
    module.feature_dtype = torch.bfloat16
    return precision
