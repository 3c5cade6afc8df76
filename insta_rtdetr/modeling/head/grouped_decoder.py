"""Decoder of LW-DETR and RF-DETR: all layers attend around the boxes that queries start with, and predict changes.

Shapes: B images, G groups, Q queries of a group, S positions, C channels.
Source: LW-DETR, https://arxiv.org/abs/2406.03459
"""

from torch import Tensor, nn

from ...layers.boxes import shift_and_scale
from ...layers.mlp import MLP
from ...layers.position_encoding import BoxPositionHead
from ...structures import GroupedQueries, Memory, Prediction
from .deformable_decoder import DecoderLayer, check_heads, num_eval_layers
from .depthwise_mask_head import DepthwiseMaskHead
from .mask_head import masks_of
from .query_selection import init_box_head, init_class_head


class GroupedDecoder(nn.Module):
    """Decoder with one class head, one box head and one mask head for all layers."""

    def __init__(
        self, *, dim: int, num_classes: int, num_layers: int, eval_layers: int, num_heads: int, num_cross_heads: int,
        num_levels: int, num_points: int, feedforward_dim: int, dropout: float, mask_stride: int,
    ):  # fmt: skip
        """Build the layers and heads.

        Args:
            dim: width `C` of a query.
            num_classes: number of classes.
            num_layers: layers that are built and trained.
            eval_layers: layers that run in eval mode; 0 for all.
            num_heads: heads of the self-attention.
            num_cross_heads: heads of the deformable cross-attention.
            num_levels: levels of the pyramid.
            num_points: sampling points for each head and level.
            feedforward_dim: width of the feed-forward part.
            dropout: dropout probability.
            mask_stride: stride of the mask map in pixels of the network's input.

        Raises:
            ValueError: there is no layer, there are more eval layers than layers, or heads do not divide the width.
        """
        super().__init__()
        check_heads(dim, num_heads)
        check_heads(dim, num_cross_heads, "NUM_CROSS_HEADS")
        self.eval_layers = num_eval_layers(eval_layers, num_layers)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, num_heads, feedforward_dim, num_levels, num_points, dropout, num_cross_heads)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.position_head = BoxPositionHead(dim)
        self.class_head = nn.Linear(dim, num_classes)
        self.box_head = MLP(dim, dim, 4, num_layers=3)
        self.mask_head = DepthwiseMaskHead(dim, num_layers, mask_stride)
        init_class_head(self.class_head)
        init_box_head(self.box_head)

    def forward(self, queries: GroupedQueries, memory: Memory, mask_features: Tensor | None) -> list[Prediction]:
        """Run the layers.

        Args:
            queries: G * Q queries of each image.
            memory: the pyramid's tokens.
            mask_features: (B, C, h, w), at the size of the masks; None to predict no masks.

        Returns:
            the predictions of all layers in training, and otherwise of the last layer that runs.
        """
        content, boxes = queries.content, queries.boxes_cxcywh
        positions = self.position_head(boxes)
        num_layers = len(self.layers) if self.training else self.eval_layers
        predictions = []
        for i in range(num_layers):
            content = self.layers[i](content, positions, boxes, memory, groups=queries.groups)
            if mask_features is not None:
                mask_features = self.mask_head.blocks[i](mask_features)
            if self.training or i == num_layers - 1:
                predictions.append(self._predict(self.norm(content), boxes, mask_features))
        return predictions

    def _predict(self, content: Tensor, boxes: Tensor, mask_features: Tensor | None) -> Prediction:
        return Prediction(
            self.class_head(content),
            shift_and_scale(boxes, self.box_head(content)),
            *masks_of(self.mask_head, content, mask_features),
        )
