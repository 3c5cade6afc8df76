"""RF-DETR's mask head: the upsampled features pass one more depthwise block for each decoder layer.

Shapes: B images, Q queries, C channels, (h, w) the mask map.
Source: RF-DETR, https://arxiv.org/abs/2511.09554
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.tokens import TokenLinear
from .mask_head import move_projection


class DepthwiseBlock(nn.Module):
    """ConvNeXt's block without its wider hidden layer: depthwise convolution, layer norm, linear layer and shortcut."""

    def __init__(self, dim: int):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pointwise = TokenLinear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: (B, C, h, w) -> (B, C, h, w)."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + F.gelu(self.pointwise(y)).permute(0, 3, 1, 2)


class DepthwiseMaskHead(nn.Module):
    """One `DepthwiseBlock` for each decoder layer, and one mask embedding of the queries for all layers."""

    def __init__(self, dim: int, num_layers: int, stride: int):
        """Build the head.

        Args:
            dim: width `C` of queries and features.
            num_layers: number of decoder layers.
            stride: stride of the mask map in pixels of the network's input.
        """
        super().__init__()
        self.stride = stride
        self.blocks = nn.ModuleList(DepthwiseBlock(dim) for _ in range(num_layers))
        self.query_norm = nn.LayerNorm(dim)
        self.linear1 = TokenLinear(dim, 4 * dim)
        self.linear2 = TokenLinear(4 * dim, dim)
        self.query_projection = TokenLinear(dim, dim)
        # The projection of the features before the dot product; `move_projection` applies it to the queries instead.
        self.projection = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(1))

    def enlarge(self, features: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Resize features to the stride of the masks, for a network input of (height, width) `input_size` in pixels."""
        size = [side // self.stride for side in input_size]
        return F.interpolate(features, size=size, mode="bilinear")

    def embed(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Embed queries (B, Q, C) for their masks; return embeddings (B, Q, C) and biases (B, Q)."""
        hidden = queries + self.linear2(F.gelu(self.linear1(self.query_norm(queries))))
        embeddings, biases = move_projection(self.query_projection(hidden), self.projection)
        return embeddings, biases + self.bias
