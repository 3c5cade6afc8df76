"""Freezing the first parts of a backbone."""

from collections.abc import Sequence

from detectron2.layers import FrozenBatchNorm2d
from torch import nn


def freeze_parts(parts: Sequence[nn.Module], freeze_at: int, freeze_norms: bool = False) -> None:
    """Freeze the first parts of a backbone, in place, with their batch norms.

    Args:
        parts: the stem and the stages, in their order; none of them is itself a batch norm.
        freeze_at: number of parts that are frozen.
        freeze_norms: whether the batch norms of the other parts are frozen, too.

    Raises:
        ValueError: `freeze_at` is negative or exceeds the number of parts.
    """
    if not 0 <= freeze_at <= len(parts):
        raise ValueError(f"MODEL.BACKBONE.FREEZE_AT must be 0 to {len(parts)}, got {freeze_at}.")
    for i, part in enumerate(parts):
        if i < freeze_at:
            part.requires_grad_(False)
        if i < freeze_at or freeze_norms:
            FrozenBatchNorm2d.convert_frozen_batchnorm(part)
