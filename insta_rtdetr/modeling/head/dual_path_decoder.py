"""Dual-path decoder: pixels read the queries, queries read the pixels of their masks, layer by layer.

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

# Tokens whose hidden layer exists at a time.  Beyond 32 MiB a new tensor costs more than what is computed into it: the
# C library gets it from the system and gives it back, page by page.
CHUNK_TOKENS = 4096


@dataclass
class DualPathState:
    """What a layer reads and rewrites, and where everything is.

    Attributes:
        queries: (B, Q + A, C).
        pixels: (B, S, C).
        query_positions: (B, Q + A, C).
        pixel_positions: (1, S, C).
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
    """Attention, sum and layer norm."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.attention = Attention(dim, num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """(B, N, C), see `Attention.forward`; the query is x with its position."""
        return self.norm(x + self.attention(x + position, key, value, visible))


class FeedForwardBlock(nn.Module):
    """Two linear layers, sum and layer norm."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        if torch.is_grad_enabled() or x.shape[1] <= CHUNK_TOKENS:
            return self._of_chunk(x)
        return torch.cat([self._of_chunk(chunk) for chunk in x.split(CHUNK_TOKENS, dim=1)], dim=1)

    def _of_chunk(self, x: Tensor) -> Tensor:
        # In training the projection may be a view, and autograd copies what is changed through one.
        hidden = project_tokens(x, self.linear1.weight, self.linear1.bias)
        hidden = F.relu(hidden, inplace=not torch.is_grad_enabled())
        return self.norm(x + project_tokens(hidden, self.linear2.weight, self.linear2.bias))


class DualPathLayer(nn.Module):
    """One update of the pixels, then one of the queries."""

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int):
        super().__init__()
        self.pixel_attention = AttentionBlock(dim, num_heads)
        self.pixel_feedforward = FeedForwardBlock(dim, feedforward_dim)
        self.query_cross_attention = AttentionBlock(dim, num_heads)
        self.query_self_attention = AttentionBlock(dim, num_heads)
        self.query_feedforward = FeedForwardBlock(dim, feedforward_dim)

    def forward(self, state: DualPathState, visible: Tensor) -> DualPathState:
        """One round.

        Args:
            visible: (B, Q + A, S), True where a query may look.
        """
        queries, pixels = state.queries, state.pixels
        query_positions, pixel_positions = state.query_positions, state.pixel_positions
        pixels = self.pixel_attention(pixels, pixel_positions, queries + query_positions, queries)
        pixels = self.pixel_feedforward(pixels)
        queries = self.query_cross_attention(queries, query_positions, pixels + pixel_positions, pixels, visible)
        queries = self.query_self_attention(queries, query_positions, queries + query_positions, queries)
        return replace(state, queries=self.query_feedforward(queries), pixels=pixels)


class PredictionHead(nn.Module):
    """Classes and masks of the queries as they are between two layers."""

    def __init__(self, dim: int, num_classes: int, mask_dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.class_head = MLP(dim, dim, num_classes + 1, num_layers=3)
        self.mask_head = QueryMaskHead(dim, mask_dim)

    def forward(self, state: DualPathState) -> Prediction:
        """Predict; auxiliary queries predict nothing."""
        queries = self.norm(state.queries[:, : state.query_points.shape[1]])
        features = state.pixels.transpose(1, 2).unflatten(2, state.size)  # (B, S, C) -> (B, C, h, w)
        embeddings, biases = self.mask_head(queries)
        return Prediction(
            self.class_head(queries), None, embeddings, features, biases, query_points=state.query_points
        )


class DualPathDecoder(nn.Module):
    """The layers, with a prediction head before the first and after each."""

    def __init__(
        self, *, dim: int, num_classes: int, num_layers: int, eval_layers: int, num_heads: int, feedforward_dim: int,
        mask_dim: int, num_aux_queries: int, position_side: int,
    ):  # fmt: skip
        """Build.

        Args:
            dim: width `C` of queries and pixels.
            num_classes: number of classes.
            num_layers: layers that are built and trained.
            eval_layers: layers that run in eval mode (0: all).
            num_heads: heads of all attentions.
            feedforward_dim: width of the feed-forward parts.
            mask_dim: width in which queries and pixels are compared.
            num_aux_queries: learned queries that predict nothing.
            position_side: side of the learned grid of positions, in cells.

        Raises:
            ValueError: no layer, more eval layers than layers, or a width that the heads do not divide.
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
        """Decode.

        Args:
            queries: (B, Q, ...).
            pixel_map: (B, C, h, w).

        Returns:
            In training, the predictions before the first and after each layer, and the states after each layer.  In
            eval mode the last of both.
        """
        state = self._start(queries, pixel_map)
        predictions, states = [self.prediction_heads[0](state)], []
        for i in range(len(self.layers) if self.training else self.eval_layers):
            state = self.layers[i](state, self._visible(predicted_attention_mask(predictions[-1])))
            predictions.append(self.prediction_heads[i + 1](state))
            states.append(state)
        return (predictions, states) if self.training else (predictions[-1:], states[-1:])

    def guided(self, states: list[DualPathState], shown: Tensor) -> list[Prediction]:
        """Every layer once more, on what it gave, with the masks of the queries' objects in place of their own.

        Args:
            states: after each layer.
            shown: (B, Q, S), True where a query may look.
        """
        visible = self._visible(shown)
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

    def _visible(self, shown: Tensor) -> Tensor:
        """(B, Q, S) -> (B, Q + A, S); auxiliary queries, and those that would see nothing, see everything."""
        shown = shown | ~shown.any(-1, keepdim=True)
        return F.pad(shown, [0, 0, 0, self.aux_content.num_embeddings], value=True)


@torch.no_grad()
def predicted_attention_mask(prediction: Prediction) -> Tensor:
    """Return (B, Q, S), True where a query's mask logit is not negative."""
    return (prediction.mask_logits >= 0).flatten(2)


@torch.no_grad()
def target_attention_mask(match: Match, targets: list[Target], num_queries: int, size: tuple[int, int]) -> Tensor:
    """Return (B, Q, S), True where a matched query's object is, and True everywhere for the other queries."""
    shown = torch.ones(len(targets), num_queries, size[0] * size[1], dtype=torch.bool, device=match.image.device)
    for i, target in enumerate(targets):
        here = match.image == i
        shown[i, match.query[here]] = _shrink(target.masks, size).flatten(1)[match.object[here]]
    return shown


def _shrink(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, H, W), bool -> (T, h, w), the value at each cell's first pixel."""
    rows, columns = (
        torch.arange(small, device=masks.device) * large // small
        for small, large in zip(size, masks.shape[1:], strict=True)
    )
    return masks[:, rows[:, None], columns]
