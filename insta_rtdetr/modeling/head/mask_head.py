"""Mask heads, which embed queries so that a mask is the dot product of an embedding with the mask features."""

import torch
from torch import Tensor, nn

from ...layers.conv import ConvNorm
from ...layers.foldable import Foldable, folded_kernel_and_bias
from ...layers.mlp import MLP


class QueryMaskHead(nn.Module):
    """Embeds queries for unprojected mask features: the features' linear projection is applied to the queries instead.

    The result is the same, e . (W f + b) = (W^T e) . f + e . b, and there are far fewer queries than pixels.
    """

    def __init__(self, query_dim: int, mask_dim: int):
        super().__init__()
        self.embedding = MLP(query_dim, query_dim, mask_dim, num_layers=3)
        self.projection = nn.Linear(query_dim, mask_dim)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Embed queries (B, Q, C); return embeddings (B, Q, C) and biases (B, Q)."""
        return move_projection(self.embedding(queries), self.projection)


def move_projection(embeddings: Tensor, projection: nn.Linear) -> tuple[Tensor, Tensor]:
    """Turn embeddings (B, Q, C_mask) for projected features into embeddings (B, Q, C) and biases (B, Q) for others."""
    return embeddings @ projection.weight, embeddings @ projection.bias


def masks_of(
    mask_head: nn.Module, queries: Tensor, mask_features: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return a prediction's mask embeddings, mask features and mask biases; all are None if there are no features."""
    if mask_features is None:
        return None, None, None
    embeddings, biases = mask_head.embed(queries)
    return embeddings, mask_features, biases


class MaskHead(Foldable):
    """Projects the mask features, and embeds queries into the same space."""

    def __init__(self, query_dim: int, mask_dim: int):
        super().__init__()
        self.projection = ConvNorm(mask_dim, mask_dim, 1)
        self.embedding = MLP(query_dim, query_dim, mask_dim, num_layers=3)
        self.has_folded_projection = False
        for layer in self.embedding.layers:
            nn.init.xavier_uniform_(layer.weight)

    def project(self, mask_features: Tensor) -> Tensor:
        """Project the mask features: (B, C_feature, h, w) -> (B, C_mask, h, w).  After folding they are unchanged."""
        return self.projection(mask_features)

    def embed(self, queries: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed queries (B, Q, C); return embeddings (B, Q, C_mask) and biases (B, Q), or None before folding."""
        embeddings = self.embedding(queries)
        if not self.has_folded_projection:
            return embeddings, None
        return embeddings[..., :-1].contiguous(), embeddings[..., -1]

    def fold_(self) -> None:
        """Move the projection from the pixels to the queries, as `QueryMaskHead` does."""
        kernel, bias = self._projection_kernel_and_bias()
        outer = torch.cat([kernel[:, :, 0, 0].T, bias[None]])  # (C_feature + 1, C_mask)
        last = self.embedding.layers[-1]
        composed = nn.utils.skip_init(
            nn.Linear, last.in_features, len(outer), device=outer.device, dtype=outer.dtype
        )
        composed.weight.copy_(outer @ last.weight)
        composed.bias.copy_(outer @ last.bias)
        self.embedding.layers[-1] = composed
        self.projection = nn.Identity()
        self.has_folded_projection = True

    def _projection_kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        return folded_kernel_and_bias(self.projection.conv, self.projection.norm)


class PrototypeMaskHead(MaskHead):
    """Mask head of Mask DINO and Mask-RT-DETR: a 1x1 convolution without norm turns the features into prototypes."""

    def __init__(self, query_dim: int, feature_dim: int, num_prototypes: int):
        super().__init__(query_dim, num_prototypes)
        self.projection = nn.Conv2d(feature_dim, num_prototypes, 1)

    def fold_(self) -> None:
        """Move the projection to the queries, unless masks would then be made from more channels than before."""
        if self.projection.in_channels <= self.projection.out_channels:
            super().fold_()

    def _projection_kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        return self.projection.weight, self.projection.bias
