"""The pyramid becomes one sequence of tokens."""

from torch import Tensor, nn

from ...layers.conv import ConvNorm
from ...structures import Memory


class LevelProjection(nn.Module):
    """A 1x1 convolution with batch norm for each level, then all positions in a row."""

    def __init__(self, in_dim: int, out_dim: int, num_levels: int):
        super().__init__()
        self.projections = nn.ModuleList(ConvNorm(in_dim, out_dim, 1) for _ in range(num_levels))

    def forward(self, levels: list[Tensor]) -> Memory:
        """L tensors (B, C_in, h, w) -> tokens (B, S, C)."""
        return Memory.of_levels([project(level) for project, level in zip(self.projections, levels, strict=True)])
