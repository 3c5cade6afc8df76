"""Dual-path decoder: in each layer pixels attend to the queries, then queries to the pixels of their masks.

Shapes: B images, Q queries, A auxiliary queries, S = h * w pixels of the mask map, K classes, C channels.
Source: FastInst, https://arxiv.org/abs/2303.08594
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.attention import Attention
from ...layers.mlp import MLP
from ...layers.tokens import project_tokens
from ...structures import LocatedQueries, Match, Prediction, Target
from .deformable_decoder import check_heads, num_eval_layers
from .mask_head import QueryMaskHead
from .query_proposal import PositionGrid

# Tokens that a feed-forward block processes at a time.  A hidden layer beyond 32 MiB takes longer to allocate than to
# compute, because the C library gets its pages from the system and returns them each time.
CHUNK_TOKENS = 4096


@dataclass
class DualPathState:
    """Features of queries and pixels, which each layer updates, and their positions, which stay.

    Attributes:
        queries: (B, Q + A, C), features of the queries and after them of the auxiliary ones.
        pixels: (B, S, C), features of the pixels.
        query_positions: (B, Q + A, C), position embeddings of the queries.
        pixel_positions: (1, S, C), position embeddings of the pixels.
        query_points: (B, Q, 2), see `LocatedQueries`.
        size: (h, w).
    """

    queries: Tensor
    pixels: Tensor
    query_positions: Tensor
    pixel_positions: Tensor
    query_points: Tensor
    size: tuple[int, int]


class AttentionBlock(nn.Module):
    """Attention, residual sum and layer norm."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.attention = Attention(dim, num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """Apply the block to x (B, N, C) with its position embeddings; see `Attention.forward` for the rest."""
        return self.norm(x + self.attention(x + position, key, value, visible))


class FeedForwardBlock(nn.Module):
    """Two linear layers, residual sum and layer norm."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: (B, N, C) -> (B, N, C)."""
        if torch.is_grad_enabled() or x.shape[1] <= CHUNK_TOKENS:
            return self._forward_chunk(x)
        return torch.cat([self._forward_chunk(chunk) for chunk in x.split(CHUNK_TOKENS, dim=1)], dim=1)

    def _forward_chunk(self, x: Tensor) -> Tensor:
        # In training the projection may be a view, and autograd copies a tensor that is changed through a view.
        hidden = project_tokens(x, self.linear1.weight, self.linear1.bias)
        hidden = F.relu(hidden, inplace=not torch.is_grad_enabled())
        return self.norm(x + project_tokens(hidden, self.linear2.weight, self.linear2.bias))


class DualPathLayer(nn.Module):
    """Decoder layer that updates the pixels, then the queries."""

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int):
        super().__init__()
        self.pixel_attention = AttentionBlock(dim, num_heads)
        self.pixel_feedforward = FeedForwardBlock(dim, feedforward_dim)
        self.query_cross_attention = AttentionBlock(dim, num_heads)
        self.query_self_attention = AttentionBlock(dim, num_heads)
        self.query_feedforward = FeedForwardBlock(dim, feedforward_dim)

    def forward(self, state: DualPathState, visible: Tensor) -> DualPathState:
        """Apply the layer.

        Args:
            state: the features before the layer.
            visible: (B, Q + A, S), True where a query may attend.
        """
        queries, pixels = state.queries, state.pixels
        query_positions, pixel_positions = state.query_positions, state.pixel_positions
        pixels = self.pixel_attention(pixels, pixel_positions, queries + query_positions, queries)
        pixels = self.pixel_feedforward(pixels)
        queries = self.query_cross_attention(queries, query_positions, pixels + pixel_positions, pixels, visible)
        queries = self.query_self_attention(queries, query_positions, queries + query_positions, queries)
        return replace(state, queries=self.query_feedforward(queries), pixels=pixels)


class PredictionHead(nn.Module):
    """Predicts classes and masks from the state between two layers."""

    def __init__(self, dim: int, num_classes: int, mask_dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.class_head = MLP(dim, dim, num_classes + 1, num_layers=3)
        self.mask_head = QueryMaskHead(dim, mask_dim)

    def forward(self, state: DualPathState) -> Prediction:
        """Predict for all queries but the auxiliary ones."""
        queries = self.norm(state.queries[:, : state.query_points.shape[1]])
        features = state.pixels.transpose(1, 2).unflatten(2, state.size)  # (B, S, C) -> (B, C, h, w)
        embeddings, biases = self.mask_head(queries)
        return Prediction(
            self.class_head(queries), None, embeddings, features, biases, query_points=state.query_points
        )


class DualPathDecoder(nn.Module):
    """FastInst's decoder, with a prediction head before the first layer and after each layer."""

    def __init__(
        self, *, dim: int, num_classes: int, num_layers: int, eval_layers: int, num_heads: int, feedforward_dim: int,
        mask_dim: int, num_aux_queries: int, position_side: int,
    ):  # fmt: skip
        """Build the layers and heads.

        Args:
            dim: width `C` of queries and pixels.
            num_classes: number of classes.
            num_layers: layers that are built and trained.
            eval_layers: layers that run in eval mode; 0 for all.
            num_heads: heads of all attentions.
            feedforward_dim: width of the feed-forward parts.
            mask_dim: width of the mask embeddings and mask features.
            num_aux_queries: number `A` of learned auxiliary queries, which predict nothing.
            position_side: side of the learned grid of position embeddings in cells.

        Raises:
            ValueError: there is no layer, there are more eval layers than layers, or the heads do not divide the width.
        """
        super().__init__()
        check_heads(dim, num_heads)
        self.eval_layers = num_eval_layers(eval_layers, num_layers)
        self.position_grid = PositionGrid(dim, position_side)
        self.aux_content = nn.Embedding(num_aux_queries, dim)
        self.aux_positions = nn.Embedding(num_aux_queries, dim)
        self.layers = nn.ModuleList(DualPathLayer(dim, num_heads, feedforward_dim) for _ in range(num_layers))
        self.prediction_heads = nn.ModuleList(
            PredictionHead(dim, num_classes, mask_dim) for _ in range(num_layers + 1)
        )

    def forward(self, queries: LocatedQueries, pixel_map: Tensor) -> tuple[list[Prediction], list[DualPathState]]:
        """Run the layers.

        Args:
            queries: Q queries of each image.
            pixel_map: (B, C, h, w), features of the pixels.

        Returns:
            in training, the predictions before the first layer and after each layer, and the states after each layer;
            in eval mode, the last prediction and the last state.
        """
        state = self._start(queries, pixel_map)
        predictions, states = [self.prediction_heads[0](state)], []
        for i in range(len(self.layers) if self.training else self.eval_layers):
            state = self.layers[i](state, self._add_auxiliary(predicted_visibility(predictions[-1])))
            predictions.append(self.prediction_heads[i + 1](state))
            states.append(state)
        return (predictions, states) if self.training else (predictions[-1:], states[-1:])

    def predict_guided(self, states: list[DualPathState], visible: Tensor) -> list[Prediction]:
        """Apply every layer again to its own output, with the masks of the matched objects as attention masks.

        This is FastInst's ground-truth mask-guided learning.

        Args:
            states: the states after each layer.
            visible: (B, Q, S), True where a query may attend, from `target_visibility`.
        """
        visible = self._add_auxiliary(visible)
        return [
            head(layer(state, visible))
            for layer, head, state in zip(self.layers, self.prediction_heads[1:], states, strict=True)
        ]

    def _start(self, queries: LocatedQueries, pixel_map: Tensor) -> DualPathState:
        size = tuple(pixel_map.shape[2:])
        num_images = pixel_map.shape[0]  # len() would fix the batch of an exported network
        aux_content, aux_positions = (
            table.weight.expand(num_images, -1, -1) for table in (self.aux_content, self.aux_positions)
        )
        return DualPathState(
            queries=torch.cat([queries.content, aux_content], dim=1),
            pixels=pixel_map.flatten(2).transpose(1, 2),
            query_positions=torch.cat([queries.positions, aux_positions], dim=1),
            pixel_positions=self.position_grid(*size),
            query_points=queries.points,
            size=size,
        )

    def _add_auxiliary(self, visible: Tensor) -> Tensor:
        """Make queries that see nothing, and added auxiliary queries, see everything: (B, Q, S) -> (B, Q + A, S)."""
        visible = visible | ~visible.any(-1, keepdim=True)
        return F.pad(visible, [0, 0, 0, self.aux_content.num_embeddings], value=True)


@torch.no_grad()
def predicted_visibility(prediction: Prediction) -> Tensor:
    """Return (B, Q, S), True where a query's mask logit is not negative."""
    return (prediction.mask_logits >= 0).flatten(2)


@torch.no_grad()
def target_visibility(match: Match, targets: list[Target], num_queries: int, size: tuple[int, int]) -> Tensor:
    """Return (B, Q, S), True in the mask of a matched query's object, and True everywhere for the other queries."""
    visible = torch.ones(len(targets), num_queries, size[0] * size[1], dtype=torch.bool, device=match.image.device)
    for i, target in enumerate(targets):
        here = match.image == i
        visible[i, match.query[here]] = _downsample(target.masks, size).flatten(1)[match.object[here]]
    return visible


def _downsample(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Take the value at each cell's first pixel: (T, H, W), bool -> (T, h, w)."""
    rows, columns = (
        torch.arange(small, device=masks.device) * large // small
        for small, large in zip(size, masks.shape[1:], strict=True)
    )
    return masks[:, rows[:, None], columns]
