"""Masks of a decoder without a pixel decoder: enlarged features, convolved a little more for each decoder layer.

Shapes: B images, Q queries, C channels, (h, w) the mask map.
Source: RF-DETR, https://arxiv.org/abs/2511.09554
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mask_head import move_projection


class DepthwiseBlock(nn.Module):
    """A depthwise 3x3 convolution, layer norm and a linear layer beside a shortcut: ConvNeXt's block, not widened."""

    def __init__(self, dim: int):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pointwise = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + F.gelu(self.pointwise(y)).permute(0, 3, 1, 2)


class DepthwiseMaskHead(nn.Module):
    """One block of the features for each decoder layer, and one embedding of queries for all of them."""

    def __init__(self, dim: int, num_layers: int, stride: int):
        """Build.

        Args:
            dim: width `C` of queries and features.
            num_layers: decoder layers.
            stride: of the mask map, in pixels of the network's input.
        """
        super().__init__()
        self.stride = stride
        self.blocks = nn.ModuleList(DepthwiseBlock(dim) for _ in range(num_layers))
        self.query_norm = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, 4 * dim)
        self.linear2 = nn.Linear(4 * dim, dim)
        self.query_projection = nn.Linear(dim, dim)
        # Of the features, in front of the dot product; its work is done on the queries.
        self.projection = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(1))

    def enlarge(self, features: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Features of an input of some (height, width), in pixels, at the stride of the masks."""
        size = [side // self.stride for side in input_size]
        return F.interpolate(features, size=size, mode="bilinear")

    def embed(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q, C) -> embeddings (B, Q, C) and biases (B, Q)."""
        hidden = queries + self.linear2(F.gelu(self.linear1(self.query_norm(queries))))
        embeddings, biases = move_projection(self.query_projection(hidden), self.projection)
        return embeddings, biases + self.bias
