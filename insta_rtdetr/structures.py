"""Data structures that the parts of the network pass to each other.

Shapes: B images, Q queries, K classes, T objects of one image, L feature levels, C channels, (H, W) the network's
input and (h, w) the mask map, in pixels.  Boxes named cxcywh are (centre x, centre y, width, height) in [0, 1] of the
network's input, padding included.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass
class Pyramid:
    """Output of an encoder: feature levels, finest first, and the features that masks are predicted from.

    Attributes:
        levels: L tensors (B, C, H / stride, W / stride); `C` is the same for all levels except in CSPPANEncoder's.
        mask_features: (B, C_mask, h, w), or None if no masks are predicted.
    """

    levels: list[Tensor]
    mask_features: Tensor | None


@dataclass
class Memory:
    """All feature levels as one sequence of tokens, which the decoder attends to.

    Attributes:
        tokens: (B, S, C), the features at the positions of all levels, level by level and row by row.
        level_sizes: (height, width) of each level.
    """

    tokens: Tensor
    level_sizes: list[tuple[int, int]]

    @classmethod
    def of_levels(cls, levels: list[Tensor]) -> "Memory":
        """Flatten and join L levels (B, C, h, w)."""
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        return cls(tokens, [tuple(level.shape[2:]) for level in levels])


@dataclass
class Queries:
    """Input of the decoder.

    Attributes:
        content: (B, Q, C), the features of the queries.
        reference_logits: (B, Q, 4), the logits (before sigmoid) of the cxcywh boxes that the queries start from.
    """

    content: Tensor
    reference_logits: Tensor


@dataclass
class NoisedQueries(Queries):
    """Denoising queries: noised copies of the targets, in groups that cannot see each other.

    The targets of all images are padded to one number.  Each group holds one copy of each target.

    Attributes:
        attention_mask: (N + Q, N + Q), True where a query (row) must not look; the N denoising queries come first.
        groups: number of groups.
    """

    attention_mask: Tensor
    groups: int


@dataclass
class GroupedQueries:
    """Queries in groups that do not attend to each other; each group is trained to find all objects.

    Attributes:
        content: (B, G * Q, C), group after group.
        boxes_cxcywh: (B, G * Q, 4), the boxes that the queries start from.
        groups: number of groups `G`.
    """

    content: Tensor
    boxes_cxcywh: Tensor
    groups: int


@dataclass
class LocatedQueries:
    """Queries taken from positions of the feature map, with these positions.

    Attributes:
        content: (B, Q, C), the features of the queries.
        positions: (B, Q, C), the position embeddings of the queries.
        points: (B, Q, 2), the positions themselves, (x, y) in [0, 1] of the network's input.
    """

    content: Tensor
    positions: Tensor
    points: Tensor


@dataclass
class Prediction:
    """Prediction of one decoder layer, of the encoder, or for the denoising queries.

    The mask logits of a query are the dot product of its embedding with the mask features.  They are computed when they
    are read, so masks that nobody reads cost nothing.

    Attributes:
        class_logits: (B, Q, K), before sigmoid; (B, Q, K + 1), before softmax, for models with a class "no object".
        boxes_cxcywh: (B, Q, 4), or None for a model that predicts no boxes.
        mask_embeddings: (B, Q, C_mask), or None if this layer predicts no masks.
        mask_features: (B, C_mask, h, w), or None.
        mask_biases: (B, Q), added to the mask logits, or None.
        query_points: (B, Q, 2), the points the queries were taken from, (x, y) in [0, 1] of the input, or None.
        objectness_logits: (B, Q), before sigmoid: how well the mask fits an object; None if it is not predicted, or if
            class_logits already count it.
    """

    class_logits: Tensor
    boxes_cxcywh: Tensor | None = None
    mask_embeddings: Tensor | None = None
    mask_features: Tensor | None = None
    mask_biases: Tensor | None = None
    query_points: Tensor | None = None
    objectness_logits: Tensor | None = None

    @property
    def has_masks(self) -> bool:
        """Return whether mask logits can be computed from this prediction."""
        return self.mask_embeddings is not None

    @property
    def mask_logits(self) -> Tensor:
        """Compute the mask logits (B, Q, h, w), before sigmoid."""
        features = self.mask_features.flatten(2)
        # The product keeps the precision of the features: mixed precision would lose that of a box prior.
        with torch.autocast(features.device.type, enabled=False):
            embeddings = self.mask_embeddings.to(features)
            if self.mask_biases is None:
                logits = embeddings @ features
            else:
                logits = torch.baddbmm(self.mask_biases[..., None].to(features), embeddings, features)
        return logits.unflatten(2, self.mask_features.shape[2:])

    def slice_queries(self, queries: slice) -> "Prediction":
        """Return the prediction for a slice of the queries."""
        return self._map(lambda values: values[:, queries], self.mask_features)

    def without_masks(self) -> "Prediction":
        """Return a copy without masks, which keeps the classes and boxes."""
        return replace(self, mask_embeddings=None, mask_features=None, mask_biases=None)

    def slice_classes(self, classes: slice) -> "Prediction":
        """Return the prediction for a slice of the classes."""
        return replace(self, class_logits=self.class_logits[..., classes])

    def select(self, image: int, queries: Tensor) -> "Prediction":
        """Return the prediction of one image for some of its queries, given as an index tensor (N,); B becomes 1."""
        features = None if self.mask_features is None else self.mask_features[image : image + 1]
        return self._map(lambda values: values[image, queries][None], features)

    def _map(self, pick: Callable[[Tensor], Tensor], mask_features: Tensor | None) -> "Prediction":
        """Apply `pick` to every tensor that has a query axis."""
        values = (
            self.class_logits, self.boxes_cxcywh, self.mask_embeddings, self.mask_biases, self.query_points,
            self.objectness_logits,
        )  # fmt: skip
        logits, boxes, embeddings, *rest = (None if value is None else pick(value) for value in values)
        return Prediction(logits, boxes, embeddings, mask_features, *rest)


@dataclass
class PositionPrediction(Prediction):
    """Prediction for every position of a pyramid, with the distributions that its boxes are the means of.

    A box is predicted as the distances of its four sides from the position's point, in cells of the position's level.
    `select` and the other methods that pick queries return a plain `Prediction`.

    Attributes:
        side_logits: (B, Q, 4, R), before softmax: left, top, right, bottom; bin `r` stands for a distance of r cells.
        cells: (Q, 2), (width, height) of a cell of each position's level, as a fraction of the network's input.
    """

    side_logits: Tensor | None = None
    cells: Tensor | None = None


@dataclass
class Target:
    """Objects of one training image.

    Attributes:
        classes: (T,), class indices from 0.
        boxes_cxcywh: (T, 4).
        masks: (T, H_mask, W_mask), bool, which cover the whole network input at any resolution; None if the data or the
            model has no masks.
    """

    classes: Tensor
    boxes_cxcywh: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.classes)


@dataclass
class GradientAccumulation:
    """Size of the batches whose gradients one process adds up for one step of the optimizer.

    Attributes:
        num_objects: number of objects in all of these batches.
        num_batches: number of batches.
    """

    num_objects: int
    num_batches: int = 1


@dataclass
class Match:
    """Pairs of queries and objects of a whole batch, as the matcher assigns them.

    Attributes:
        image: (N,), indices of the images in the batch.
        query: (N,), indices of the queries.
        object: (N,), indices of the objects within their images.
    """

    image: Tensor
    query: Tensor
    object: Tensor

    @classmethod
    def from_images(cls, pairs: list[tuple[Tensor, Tensor]], device: torch.device) -> "Match":
        """Join the pairs (query indices, object indices) of all images."""
        image = torch.cat([torch.full_like(torch.as_tensor(query), i) for i, (query, _) in enumerate(pairs)])
        query = torch.cat([torch.as_tensor(query) for query, _ in pairs])
        target = torch.cat([torch.as_tensor(target) for _, target in pairs])
        return cls(image.long().to(device), query.long().to(device), target.long().to(device))

    def __len__(self) -> int:
        return len(self.query)


@dataclass
class AlignedMatch(Match):
    """Pairs of which several may have the same object.

    Attributes:
        quality: (N,), in [0, 1], how well each query answers for its object, compared with the object's best query.
    """

    quality: Tensor


@dataclass
class DenoisingPredictions:
    """Predictions for the noised targets, one for each decoder layer.

    Attributes:
        layers: predictions whose queries are `groups` copies of the padded targets, group after group.
        groups: number of groups.
    """

    layers: list[Prediction]
    groups: int


@dataclass
class MaskGuidedPredictions:
    """Predictions of FastInst's second pass, in which each matched query attends to the mask of its object.

    Attributes:
        layers: one prediction for each decoder layer.
        match: the queries, and the objects whose masks they attend to.
    """

    layers: list[Prediction]
    match: Match


@dataclass
class ModelOutput:
    """Output of the network.

    Attributes:
        layers: predictions of the decoder layers, in their order; in inference, the last layer's alone may be given.
        encoder: prediction of the encoder for the positions that were selected as queries (training only).
        denoising: predictions for the noised targets (training only, None without targets).
        guided: predictions guided by the masks of the targets (training only).
        proposal_logits: (B, K + 1, h', w'), class logits of the positions that queries are taken from (training only).
        groups: parts of the queries of `layers` and `encoder`, each of which answers for all objects.
        dense: classes and boxes of all positions of the pyramid (training only).
        one_to_many: of each decoder layer, for queries of which several answer for an object (training only).
    """

    layers: list[Prediction]
    encoder: Prediction | None = None
    denoising: DenoisingPredictions | None = None
    guided: MaskGuidedPredictions | None = None
    proposal_logits: Tensor | None = None
    groups: int = 1
    dense: Prediction | None = None
    one_to_many: list[Prediction] | None = None
