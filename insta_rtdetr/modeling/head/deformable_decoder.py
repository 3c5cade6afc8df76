"""Decoder of the RT-DETR family: queries look at each other and at the pyramid, and refine their boxes layer by layer.

Shapes: B images, Q queries (N denoising queries first, in training), S positions, C channels.
Source: RT-DETR, https://arxiv.org/abs/2304.08069
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.boxes import shift_and_scale, shift_logits
from ...layers.deformable_attention import DeformableAttention
from ...layers.mlp import MLP
from ...layers.tokens import TokenLinear
from ...structures import Memory, Prediction, Queries
from .box_prior import BoxPrior
from .mask_head import MaskHead
from .query_selection import init_box_head, init_class_head


class DecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention and a feed-forward part, each followed by a sum and layer norm."""

    def __init__(
        self, dim: int, num_heads: int, feedforward_dim: int, num_levels: int, num_points: int, dropout: float,
        num_cross_heads: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn = DeformableAttention(dim, num_cross_heads or num_heads, num_levels, num_points)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = TokenLinear(dim, feedforward_dim)
        self.linear2 = TokenLinear(feedforward_dim, dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, content: Tensor, positions: Tensor, boxes: Tensor, memory: Memory, attention_mask: Tensor | None = None,
        groups: int = 1,
    ) -> Tensor:  # fmt: skip
        """One round.

        Args:
            content: (B, Q, C).
            positions: (B, Q, C), code of the boxes.
            boxes: (B, Q, 4), cxcywh.
            memory: the pyramid's tokens.
            attention_mask: (Q / groups, Q / groups), True where a query (row) must not look.
            groups: that many parts of the queries, one after the other, do not look at each other.

        Returns:
            (B, Q, C).
        """
        query, value = (x.unflatten(1, (groups, -1)).flatten(0, 1) for x in (content + positions, content))
        attended, _ = self.self_attn(query, query, value, attn_mask=attention_mask, need_weights=False)
        content = self.norm1(content + self.dropout(attended.reshape(content.shape)))
        read = self.cross_attn(content + positions, boxes, memory.tokens, memory.level_sizes)
        content = self.norm2(content + self.dropout(read))
        hidden = self.dropout(F.relu(self.linear1(content)))
        return self.norm3(content + self.dropout(self.linear2(hidden)))


class RefiningDecoder(nn.Module):
    """The layers, without the heads that read their answers."""

    def __init__(
        self, *, dim: int, num_layers: int, eval_layers: int, num_heads: int, num_levels: int, num_points: int,
        feedforward_dim: int, dropout: float, mask_head: MaskHead,
    ):  # fmt: skip
        """Build.

        Args:
            dim: width `C` of a query.
            num_layers: layers that are built and trained.
            eval_layers: layers that run in eval mode (0: all).
            num_heads: heads of both attentions.
            num_levels: levels of the pyramid.
            num_points: sampling points for each head and level.
            feedforward_dim: width of the feed-forward part.
            dropout: probability.
            mask_head: embeds queries for their masks.

        Raises:
            ValueError: no layer, more eval layers than layers, or a width that the heads do not divide.
        """
        super().__init__()
        check_heads(dim, num_heads)
        self.eval_layers = num_eval_layers(eval_layers, num_layers)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, num_heads, feedforward_dim, num_levels, num_points, dropout) for _ in range(num_layers)
        )
        self.position_head = self.build_position_head(dim)
        self.mask_head = mask_head
        for layer in self.position_head.layers:
            nn.init.xavier_uniform_(layer.weight)

    def build_position_head(self, dim: int) -> MLP:
        """Build what turns boxes (B, Q, 4) into their position codes (B, Q, C)."""
        return MLP(4, 2 * dim, dim, num_layers=2)

    def project_masks(self, mask_features: Tensor) -> Tensor:
        """(B, C_feature, h, w) -> (B, C_mask, h, w), what masks are made from."""
        return self.mask_head.project(mask_features)

    def run_layer(
        self, layer: int, content: Tensor, positions: Tensor, boxes: Tensor, memory: Memory,
        attention_mask: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Run one layer, see `DecoderLayer`."""
        return self.layers[layer](content, positions, boxes, memory, attention_mask)

    def refine(self, layer: int, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes (B, Q, 4) that a layer answers, and those that the next one starts from."""
        raise NotImplementedError

    def predict(self, layer: int, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """What a layer answers for queries (B, Q, C) with these boxes."""
        raise NotImplementedError

    def forward(
        self, queries: Queries, memory: Memory, mask_features: Tensor | None, attention_mask: Tensor | None = None
    ) -> list[Prediction]:
        """Decode.

        Args:
            queries: (B, Q, ...).
            memory: the pyramid's tokens.
            mask_features: (B, C_mask, h, w), see `project_masks`; None: no masks are wanted.
            attention_mask: (Q, Q), True where a query (row) must not look.

        Returns:
            The predictions of every layer in training, of the last layer that runs otherwise.
        """
        content, boxes = queries.content, queries.reference_logits.sigmoid()
        num_layers = len(self.layers) if self.training else self.eval_layers
        predictions = []
        for i in range(num_layers):
            # A layer learns from where it looks, not where the layers before it sent it.
            reference_boxes = boxes.detach()
            positions = self.position_head(reference_boxes)
            content = self.run_layer(i, content, positions, reference_boxes, memory, attention_mask)
            answered, boxes = self.refine(i, content, boxes)
            if self.training or i == num_layers - 1:
                predictions.append(self.predict(i, content, answered, mask_features))
        return predictions


class DeformableDecoder(RefiningDecoder):
    """A class head and a box head for each layer, and one mask head for all."""

    def __init__(
        self, *, dim: int, num_classes: int, num_layers: int, box_prior: BoxPrior | None = None,
        relative_boxes: bool = False, **layers,
    ):  # fmt: skip
        """Build.

        Args:
            dim: width `C` of a query.
            num_classes: number of classes.
            num_layers: layers that are built and trained.
            box_prior: what masks start from, or None.
            relative_boxes: whether boxes are refined in units of their sides, not in logits.
            layers: see `RefiningDecoder`.
        """
        super().__init__(dim=dim, num_layers=num_layers, **layers)
        self.box_prior = box_prior
        self.move_boxes = shift_and_scale if relative_boxes else shift_logits
        self.class_heads = nn.ModuleList(nn.Linear(dim, num_classes) for _ in range(num_layers))
        self.box_heads = nn.ModuleList(MLP(dim, dim, 4, num_layers=3) for _ in range(num_layers))
        for class_head, box_head in zip(self.class_heads, self.box_heads, strict=True):
            init_class_head(class_head)
            init_box_head(box_head)

    def project_masks(self, mask_features: Tensor) -> Tensor:
        """See `RefiningDecoder`."""
        projected = super().project_masks(mask_features)
        return projected if self.box_prior is None else self.box_prior.extend_features(projected)

    def embed_masks(self, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Queries (B, Q, C) with their boxes -> mask embeddings (B, Q, C_mask) and biases (B, Q), or None."""
        embeddings, biases = self.mask_head.embed(content)
        return (embeddings, biases) if self.box_prior is None else self.box_prior(embeddings, biases, boxes)

    def refine(self, layer: int, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """See `RefiningDecoder`; a box learns from all boxes after it."""
        refined = self.move_boxes(boxes, self.box_heads[layer](content))
        return refined, refined

    def predict(self, layer: int, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """See `RefiningDecoder`."""
        if mask_features is None:
            return Prediction(self.class_heads[layer](content), boxes)
        embeddings, biases = self.embed_masks(content, boxes)
        return Prediction(self.class_heads[layer](content), boxes, embeddings, mask_features, biases)


def check_heads(dim: int, num_heads: int, key: str = "NUM_HEADS") -> None:
    """Refuse heads that do not divide a width.

    Raises:
        ValueError: they do not.
    """
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise ValueError(
            f"MODEL.ENCODER.HIDDEN_DIM, {dim}, must be a multiple of MODEL.DECODER.{key}, which is {num_heads}."
        )


def num_eval_layers(eval_layers: int, num_layers: int) -> int:
    """How many layers run in eval mode.

    Args:
        eval_layers: how many are wanted (0: all).
        num_layers: how many there are.

    Raises:
        ValueError: there are none, or not so many.
    """
    if num_layers < 1:
        raise ValueError(f"MODEL.DECODER.NUM_LAYERS must be at least 1, got {num_layers}.")
    if not 0 <= eval_layers <= num_layers:
        raise ValueError(
            f"MODEL.DECODER.EVAL_LAYERS must be from 0 to NUM_LAYERS, which is {num_layers}, got {eval_layers}."
        )
    return eval_layers or num_layers
