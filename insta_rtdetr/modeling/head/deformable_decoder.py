"""Decoder of the RT-DETR family: queries attend to each other and to the pyramid, and every layer refines their boxes.

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
    """Self-attention, deformable cross-attention and a feed-forward part, each with a residual sum and layer norm."""

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
        """Apply the layer.

        Args:
            content: (B, Q, C), features of the queries.
            positions: (B, Q, C), position embeddings of the boxes.
            boxes: (B, Q, 4), cxcywh, the reference boxes.
            memory: the pyramid's tokens.
            attention_mask: (Q / groups, Q / groups), True where a query (row) must not attend.
            groups: number of equal, consecutive parts of the queries that do not attend to each other.

        Returns:
            (B, Q, C), the new features.
        """
        query, value = (x.unflatten(1, (groups, -1)).flatten(0, 1) for x in (content + positions, content))
        attended, _ = self.self_attn(query, query, value, attn_mask=attention_mask, need_weights=False)
        content = self.norm1(content + self.dropout(attended.reshape(content.shape)))
        read = self.cross_attn(content + positions, boxes, memory.tokens, memory.level_sizes)
        content = self.norm2(content + self.dropout(read))
        hidden = self.dropout(F.relu(self.linear1(content)))
        return self.norm3(content + self.dropout(self.linear2(hidden)))


class RefiningDecoder(nn.Module):
    """Decoder with iterative box refinement.  Subclasses add the heads, through `refine` and `predict`."""

    def __init__(
        self, *, dim: int, num_layers: int, eval_layers: int, num_heads: int, num_levels: int, num_points: int,
        feedforward_dim: int, dropout: float, mask_head: MaskHead,
    ):  # fmt: skip
        """Build the layers.

        Args:
            dim: width `C` of a query.
            num_layers: layers that are built and trained.
            eval_layers: layers that run in eval mode; 0 for all.
            num_heads: heads of both attentions.
            num_levels: levels of the pyramid.
            num_points: sampling points for each head and level.
            feedforward_dim: width of the feed-forward part.
            dropout: dropout probability.
            mask_head: head that embeds queries for their masks.

        Raises:
            ValueError: there is no layer, there are more eval layers than layers, or the heads do not divide the width.
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
        """Build the module that turns boxes (B, Q, 4) into position embeddings (B, Q, C)."""
        return MLP(4, 2 * dim, dim, num_layers=2)

    def project_masks(self, mask_features: Tensor) -> Tensor:
        """Project the mask features: (B, C_feature, h, w) -> (B, C_mask, h, w)."""
        return self.mask_head.project(mask_features)

    def run_layer(
        self, layer: int, content: Tensor, positions: Tensor, boxes: Tensor, memory: Memory,
        attention_mask: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Run one layer; see `DecoderLayer`."""
        return self.layers[layer](content, positions, boxes, memory, attention_mask)

    def refine(self, layer: int, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boxes (B, Q, 4) that a layer predicts, and those that the next layer starts from."""
        raise NotImplementedError

    def predict(self, layer: int, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """Return the prediction of a layer for queries (B, Q, C) and their boxes (B, Q, 4)."""
        raise NotImplementedError

    def forward(
        self, queries: Queries, memory: Memory, mask_features: Tensor | None, attention_mask: Tensor | None = None
    ) -> list[Prediction]:
        """Run the layers.

        Args:
            queries: Q queries of each image.
            memory: the pyramid's tokens.
            mask_features: (B, C_mask, h, w), from `project_masks`; None to predict no masks.
            attention_mask: (Q, Q), True where a query (row) must not attend.

        Returns:
            the predictions of all layers in training, and otherwise of the last layer that runs.
        """
        content, boxes = queries.content, queries.reference_logits.sigmoid()
        num_layers = len(self.layers) if self.training else self.eval_layers
        predictions = []
        for i in range(num_layers):
            # Reference boxes are detached: a layer's attention sends no gradient to the boxes of earlier layers.
            reference_boxes = boxes.detach()
            positions = self.position_head(reference_boxes)
            content = self.run_layer(i, content, positions, reference_boxes, memory, attention_mask)
            predicted_boxes, boxes = self.refine(i, content, boxes)
            if self.training or i == num_layers - 1:
                predictions.append(self.predict(i, content, predicted_boxes, mask_features))
        return predictions


class DeformableDecoder(RefiningDecoder):
    """Decoder with a class head and a box head for each layer, and one mask head for all layers."""

    def __init__(
        self, *, dim: int, num_classes: int, num_layers: int, box_prior: BoxPrior | None = None,
        relative_boxes: bool = False, **layers,
    ):  # fmt: skip
        """Build the layers and heads.

        Args:
            dim: width `C` of a query.
            num_classes: number of classes.
            num_layers: layers that are built and trained.
            box_prior: term that is added to mask logits, or None.
            relative_boxes: whether boxes are refined in units of their sides instead of in logits.
            layers: more arguments of `RefiningDecoder`.
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
        """Project the mask features, and extend them for the box prior if there is one; see `RefiningDecoder`."""
        projected = super().project_masks(mask_features)
        return projected if self.box_prior is None else self.box_prior.extend_features(projected)

    def embed_masks(self, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed queries (B, Q, C) with boxes (B, Q, 4): return embeddings (B, Q, C_mask) and biases (B, Q) or None."""
        embeddings, biases = self.mask_head.embed(content)
        return (embeddings, biases) if self.box_prior is None else self.box_prior(embeddings, biases, boxes)

    def refine(self, layer: int, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Refine boxes without a detach, so that they get gradients from all later layers; see `RefiningDecoder`."""
        refined = self.move_boxes(boxes, self.box_heads[layer](content))
        return refined, refined

    def predict(self, layer: int, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        """Predict with the heads of the layer; see `RefiningDecoder`."""
        if mask_features is None:
            return Prediction(self.class_heads[layer](content), boxes)
        embeddings, biases = self.embed_masks(content, boxes)
        return Prediction(self.class_heads[layer](content), boxes, embeddings, mask_features, biases)


def check_heads(dim: int, num_heads: int, key: str = "NUM_HEADS") -> None:
    """Check that the number of attention heads, which the config key `key` sets, divides the decoder's width.

    Raises:
        ValueError: it does not, or one of the two is not positive.
    """
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise ValueError(
            f"MODEL.ENCODER.HIDDEN_DIM, {dim}, must be a multiple of MODEL.DECODER.{key}, which is {num_heads}."
        )


def num_eval_layers(eval_layers: int, num_layers: int) -> int:
    """Return the number of layers that run in eval mode.

    Args:
        eval_layers: the number of wanted layers; 0 for all.
        num_layers: the number of existing layers.

    Raises:
        ValueError: there is no layer, or `eval_layers` is not from 0 to `num_layers`.
    """
    if num_layers < 1:
        raise ValueError(f"MODEL.DECODER.NUM_LAYERS must be at least 1, got {num_layers}.")
    if not 0 <= eval_layers <= num_layers:
        raise ValueError(
            f"MODEL.DECODER.EVAL_LAYERS must be from 0 to NUM_LAYERS, which is {num_layers}, got {eval_layers}."
        )
    return eval_layers or num_layers
