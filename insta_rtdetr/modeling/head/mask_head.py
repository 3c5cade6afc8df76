"""A query's mask is the dot product of its embedding with the mask features."""

import torch
from torch import Tensor, nn

from ...layers.conv import ConvNorm
from ...layers.foldable import Foldable, folded_kernel_and_bias
from ...layers.mlp import MLP


class QueryMaskHead(nn.Module):
    """Embeds queries for features that would be projected by a linear layer first, which is moved to the queries.

    e . (W f + b) = (W^T e) . f + e . b: there are a hundred queries and thousands of pixels.
    """

    def __init__(self, query_dim: int, mask_dim: int):
        super().__init__()
        self.embedding = MLP(query_dim, query_dim, mask_dim, num_layers=3)
        self.projection = nn.Linear(query_dim, mask_dim)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q, C) -> embeddings (B, Q, C) for features as they are, and biases (B, Q)."""
        return move_projection(self.embedding(queries), self.projection)


def move_projection(embeddings: Tensor, projection: nn.Linear) -> tuple[Tensor, Tensor]:
    """Embeddings (B, Q, C_mask) for features behind a projection -> (B, Q, C) for those before it, biases (B, Q)."""
    return embeddings @ projection.weight, embeddings @ projection.bias


def masks_of(
    mask_head: nn.Module, queries: Tensor, mask_features: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The last three parts of a `Prediction`: embeddings, features and biases; None without features."""
    if mask_features is None:
        return None, None, None
    embeddings, biases = mask_head.embed(queries)
    return embeddings, mask_features, biases


class MaskHead(Foldable):
    """Projects the mask features once, and embeds queries into the same space."""

    def __init__(self, query_dim: int, mask_dim: int):
        super().__init__()
        self.projection = ConvNorm(mask_dim, mask_dim, 1)
        self.embedding = MLP(query_dim, query_dim, mask_dim, num_layers=3)
        self.has_folded_projection = False
        for layer in self.embedding.layers:
            nn.init.xavier_uniform_(layer.weight)

    def project(self, mask_features: Tensor) -> Tensor:
        """(B, C_feature, h, w) -> (B, C_mask, h, w), C_mask being C_feature once folded."""
        return self.projection(mask_features)

    def embed(self, queries: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, Q, C) -> embeddings (B, Q, C_mask) and biases (B, Q), or None before folding."""
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
    """The same with a plain convolution that turns the features into prototypes, which may be more or fewer."""

    def __init__(self, query_dim: int, feature_dim: int, num_prototypes: int):
        super().__init__(query_dim, num_prototypes)
        self.projection = nn.Conv2d(feature_dim, num_prototypes, 1)

    def fold_(self) -> None:
        """Move the projection to the queries, unless the masks would be made from more channels then."""
        if self.projection.in_channels <= self.projection.out_channels:
            super().fold_()

    def _projection_kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        return self.projection.weight, self.projection.bias
