"""SparseInst's decoder: each query is a mean of the features, weighted by a map of where its object is.

Shapes: B images, C channels, Q queries, G groups, (h, w) the feature map, (2h, 2w) the mask map.
Source: SparseInst, https://arxiv.org/abs/2203.12827
"""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.position_encoding import place_channels
from ...layers.precision import full_precision
from ...structures import Prediction
from .query_selection import init_class_head

# Of the mask map to the feature map.
MASK_SCALE = 2


class ConvStack(nn.Sequential):
    """3x3 convolutions with a ReLU behind each."""

    def __init__(self, in_channels: int, channels: int, num_convs: int):
        layers = []
        for i in range(num_convs):
            layers += [nn.Conv2d(channels if i else in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
            weight_init.c2_msra_fill(layers[-2])
        super().__init__(*layers)


class InstanceBranch(nn.Module):
    """Queries from instance activation maps, and what is predicted of each.

    With several groups of maps a query is put together from one mean of each group.
    """

    def __init__(
        self, in_channels: int, dim: int, num_convs: int, num_queries: int, num_groups: int, num_classes: int,
        mask_dim: int,
    ):  # fmt: skip
        super().__init__()
        self.num_groups = num_groups
        self.convs = ConvStack(in_channels, dim, num_convs)
        self.activation = nn.Conv2d(dim, num_queries * num_groups, 3, padding=1, groups=num_groups)
        query_dim = dim * num_groups
        self.fusion = nn.Linear(query_dim, query_dim) if num_groups > 1 else None
        self.class_head = nn.Linear(query_dim, num_classes)
        self.mask_embedding = nn.Linear(query_dim, mask_dim)
        self.objectness = nn.Linear(query_dim, 1)
        self._init_weights()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, h, w) -> class logits (B, Q, K), mask embeddings (B, Q, C_mask), objectness logits (B, Q)."""
        queries = self._queries(self.convs(features))
        return self.class_head(queries), self.mask_embedding(queries), self.objectness(queries)[..., 0]

    def _queries(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, Q, G * C)."""
        weights = full_precision(self.activation(features)).sigmoid().flatten(2)  # (B, G * Q, h * w)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
        means = weights.to(features) @ features.flatten(2).transpose(1, 2)
        if self.fusion is None:
            return means
        return F.relu(self.fusion(means.unflatten(1, (self.num_groups, -1)).transpose(1, 2).flatten(2)))

    def _init_weights(self) -> None:
        for layer in (self.activation, self.class_head, self.mask_embedding):
            nn.init.normal_(layer.weight, std=0.01)
        for layer in (self.activation, self.class_head):
            init_class_head(layer)
        nn.init.zeros_(self.mask_embedding.bias)
        if self.fusion is not None:
            weight_init.c2_xavier_fill(self.fusion)


class InstanceActivationDecoder(nn.Module):
    """Queries beside mask features, from features that know their places."""

    def __init__(
        self, *, feature_dim: int, dim: int, num_convs: int, num_queries: int, num_groups: int, num_classes: int,
        mask_dim: int,
    ):  # fmt: skip
        """Build.

        Args:
            feature_dim: channels of the encoder's result.
            dim: channels of the convolutions.
            num_convs: 3x3 convolutions before the activation maps, and before the mask features.
            num_queries: `Q`.
            num_groups: activation maps of each query.
            num_classes: `K`.
            mask_dim: channels of the mask features.
        """
        super().__init__()
        # Two more channels for the place.
        in_channels = feature_dim + 2
        self.instance_branch = InstanceBranch(
            in_channels, dim, num_convs, num_queries, num_groups, num_classes, mask_dim
        )
        self.mask_convs = ConvStack(in_channels, dim, num_convs)
        self.mask_projection = nn.Conv2d(dim, mask_dim, 1)
        weight_init.c2_msra_fill(self.mask_projection)

    def forward(self, features: Tensor) -> Prediction:
        """(B, C, h, w) -> a prediction with objectness, and with masks of (2h, 2w)."""
        located = torch.cat([place_channels(features), features], dim=1)
        class_logits, embeddings, objectness_logits = self.instance_branch(located)
        mask_features = self.mask_projection(self.mask_convs(located))
        # The original enlarges masks, which is the same, as both are linear.
        mask_features = F.interpolate(mask_features, scale_factor=MASK_SCALE, mode="bilinear")
        return Prediction(
            class_logits,
            mask_embeddings=embeddings,
            mask_features=mask_features,
            objectness_logits=objectness_logits,
        )
