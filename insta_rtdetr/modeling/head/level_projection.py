"""Projection of the pyramid to the decoder's memory, one sequence of tokens."""

from torch import Tensor, nn

from ...layers.conv import ConvNorm
from ...structures import Memory


class LevelProjection(nn.Module):
    """Applies a 1x1 convolution with batch norm to each level and joins the positions of all levels."""

    def __init__(self, in_dim: int, out_dim: int, num_levels: int):
        super().__init__()
        self.projections = nn.ModuleList(ConvNorm(in_dim, out_dim, 1) for _ in range(num_levels))

    def forward(self, levels: list[Tensor]) -> Memory:
        """Turn L levels (B, C_in, h, w) into S tokens (B, S, C)."""
        return Memory.of_levels([project(level) for project, level in zip(self.projections, levels, strict=True)])
