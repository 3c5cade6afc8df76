"""Multi-head attention.

Shapes: B images, N queries, S keys, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tokens import project_tokens


class Attention(nn.Module):
    """Multi-head attention with the parameters and results of `nn.MultiheadAttention`.

    It takes one mask for all heads and does not copy it for each of them.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """Compute multi-head attention.

        Args:
            query: (B, N, C).
            key: (B, S, C).
            value: (B, S, C).
            visible: (B, N, S), True where a query may look.  Each query must be allowed to look somewhere.  None lets
                every query look everywhere.

        Returns:
            (B, N, C).
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        heads = [
            project_tokens(x, weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]  # each (B, heads, N or S, C / heads)
        mask = None if visible is None else visible[:, None]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return project_tokens(attended.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)
