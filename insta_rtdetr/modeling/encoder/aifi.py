"""AIFI: self-attention between the positions of one feature level."""

import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.position_encoding import check_order, sine_position_encoding
from ...layers.tokens import TokenLinear
from .build import check_heads


class AttentionLayer(nn.Module):
    """Self-attention and a feed-forward part, each followed by a residual sum and layer norm."""

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, dropout: float):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.linear1 = TokenLinear(dim, feedforward_dim)
        self.linear2 = TokenLinear(feedforward_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Apply the layer to tokens (B, S, C) with position embeddings (S, C); return (B, S, C)."""
        query = tokens + positions
        attended, _ = self.self_attn(query, query, tokens, need_weights=False)
        tokens = self.norm1(tokens + self.dropout(attended))
        hidden = self.dropout(F.gelu(self.linear1(tokens)))
        return self.norm2(tokens + self.dropout(self.linear2(hidden)))


class AIFI(nn.Module):
    """Attention-based intra-scale feature interaction.

    Source: RT-DETR, https://arxiv.org/abs/2304.08069
    """

    def __init__(
        self, *, dim: int, num_layers: int, num_heads: int, feedforward_dim: int, dropout: float,
        temperature: float, position_order: str,
    ):  # fmt: skip
        super().__init__()
        check_heads(dim, num_heads)
        check_order(position_order)
        self.layers = nn.ModuleList(
            AttentionLayer(dim, num_heads, feedforward_dim, dropout) for _ in range(num_layers)
        )
        self.dim, self.temperature, self.position_order = dim, temperature, position_order

    def forward(self, level: Tensor) -> Tensor:
        """Apply all layers to a level: (B, C, h, w) -> (B, C, h, w)."""
        height, width = level.shape[2:]
        tokens = level.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, h * w, C)
        positions = sine_position_encoding(
            height, width, self.dim, self.temperature, self.position_order, level.device, level.dtype
        )
        for layer in self.layers:
            tokens = layer(tokens, positions)
        return tokens.transpose(1, 2).unflatten(2, (height, width))
