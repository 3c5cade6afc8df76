"""Full precision where half precision is not enough."""

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """Convert values to float32, unless they are float64; costs and losses overflow or vanish in half precision."""
    return values if values.dtype == torch.float64 else values.float()
