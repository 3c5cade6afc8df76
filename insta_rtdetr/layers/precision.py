"""Where half precision is not enough."""

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """float32, or float64 where it is that already: costs and losses overflow or vanish in half precision."""
    return values if values.dtype == torch.float64 else values.float()
