"""Sine position embeddings of grid positions and of boxes, and positions themselves as channels of a map."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from .mlp import MLP

# Added to the number of rows or columns that a place is divided by, as in DETR.
GRID_EPSILON = 1e-6


def check_order(order: str) -> None:
    """Check the value of MODEL.ENCODER.POSITION_ORDER.

    Raises:
        ValueError: it is neither row_major nor column_major.
    """
    if order not in ("row_major", "column_major"):
        raise ValueError(f"MODEL.ENCODER.POSITION_ORDER must be row_major or column_major, got {order!r}.")


@lru_cache(maxsize=32)
def sine_position_encoding(
    height: int, width: int, dim: int, temperature: float, order: str, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Compute the position embedding of every position of a (height, width) map.

    It consists of sine and cosine of the row, and then of the column.

    Args:
        dim: width of the embedding, a multiple of 4.
        temperature: the frequencies fall from 1 to almost 1 / temperature.
        order: "row_major" gives the embedding of row r and column c to position r * width + c of the flattened map.
            "column_major" gives it to position r + c * height with rows and columns exchanged, as RT-DETR does; the
            two agree on square maps.

    Returns:
        (height * width, dim), cached.

    Raises:
        ValueError: dim is no multiple of 4, or order is none of the two.

    Source: RT-DETR, https://arxiv.org/abs/2304.08069
    """
    if dim % 4:
        raise ValueError(f"a position code is a multiple of 4 wide, got {dim}. Change MODEL.ENCODER.HIDDEN_DIM.")
    check_order(order)
    first, second = (height, width) if order == "row_major" else (width, height)
    # A tensor made in inference mode could not take part in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        # Published weights were trained with the rounding of float32 and of this order of operations, so both are kept.
        frequencies = 1 / temperature ** (torch.arange(dim // 4, dtype=torch.float32) / (dim // 4))
        angle1 = torch.arange(first, dtype=torch.float32)[:, None] * frequencies
        angle2 = torch.arange(second, dtype=torch.float32)[:, None] * frequencies
        angle1 = angle1.repeat_interleave(second, dim=0)
        angle2 = angle2.repeat(first, 1)
        code = torch.cat([angle1.sin(), angle1.cos(), angle2.sin(), angle2.cos()], dim=1)
        return code.to(device=device, dtype=dtype)


def box_position_encoding(boxes: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """Compute the position embedding of boxes: of y, x, width and height, each as sine, cosine, sine, cosine, ....

    Args:
        boxes: (..., 4), cxcywh in [0, 1].
        dim: width of the embedding of one number, even.
        temperature: the frequencies fall from 1 to almost 1 / temperature, in periods for each side of the image.

    Returns:
        (..., 4 * dim).

    Source: DAB-DETR, https://arxiv.org/abs/2201.12329
    """
    return _interleaved_code(boxes[..., [1, 0, 2, 3]], dim, temperature)


class BoxPositionHead(MLP):
    """Two linear layers that turn the sine encoding of a query's box into its position embedding."""

    def __init__(self, dim: int):
        super().__init__(2 * dim, dim, dim, num_layers=2)
        self.code_dim = dim // 2

    def forward(self, boxes: Tensor) -> Tensor:
        """Encode boxes (..., 4), cxcywh in [0, 1], as position embeddings (..., C)."""
        return super().forward(box_position_encoding(boxes, self.code_dim))


@lru_cache(maxsize=32)
def grid_position_encoding(height: int, width: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Code of every position of a (height, width) map: of its row, then of its column.

    The number of a row, from 1, is divided by the number of rows and coded as sine, cosine, sine, cosine, ....

    Args:
        dim: width of the code, a multiple of 4.

    Returns:
        (height * width, dim), row by row.  Cached.
    Source: Deformable DETR, https://arxiv.org/abs/2010.04159
    """
    # A tensor made in inference mode could not take part in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        rows, columns = (
            torch.arange(1, side + 1, dtype=torch.float64) / (side + GRID_EPSILON) for side in (height, width)
        )
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)  # (h * w, 2)
        return _interleaved_code(places, dim // 2, 10000.0).to(device=device, dtype=dtype)


def _interleaved_code(numbers: Tensor, dim: int, temperature: float) -> Tensor:
    """Numbers (..., N) in [0, 1] -> (..., N * dim): each as sine, cosine, sine, cosine, ... of falling frequency."""
    frequencies = 1 / temperature ** (torch.arange(0, dim, 2, dtype=numbers.dtype, device=numbers.device) / dim)
    angles = numbers[..., None] * (2 * math.pi) * frequencies  # (..., N, dim / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-3)


def place_channels(features: Tensor) -> Tensor:
    """Return x and y of each position of a map (B, C, h, w), from -1 in the first to 1 in the last: (B, 2, h, w)."""
    batch, _, height, width = features.shape
    y, x = (
        torch.arange(side, device=features.device, dtype=features.dtype) * (2 / max(side - 1, 1)) - 1
        for side in (height, width)
    )
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)]).expand(batch, -1, -1, -1)
