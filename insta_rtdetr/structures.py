"""What passes between the rooms.

Letters: B images, Q queries, K classes, T objects of one image, L pyramid levels, C channels, (H, W) the network's
input and (h, w) the mask map, in pixels.  Boxes named cxcywh are (centre x, centre y, width, height) in [0, 1] of the
network's input, padding included.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Pyramid:
    """What an encoder gives: levels of one width, finest first, and the features that masks are read from.

    Attributes:
        levels: L tensors (B, C, H / stride, W / stride).
        mask_features: (B, C_mask, h, w).
    """

    levels: list[Tensor]
    mask_features: Tensor


@dataclass
class Memory:
    """The pyramid as the decoder reads it.

    Attributes:
        tokens: (B, S, C), the positions of all levels, level by level, row by row.
        level_sizes: (height, width) of each level.
    """

    tokens: Tensor
    level_sizes: list[tuple[int, int]]


@dataclass
class Queries:
    """What enters the decoder.

    Attributes:
        content: (B, Q, C).
        reference_logits: (B, Q, 4), cxcywh boxes before sigmoid.
    """

    content: Tensor
    reference_logits: Tensor


@dataclass
class NoisedQueries(Queries):
    """Noised copies of the targets, padded to one number an image, repeated in groups that cannot see each other.

    Attributes:
        attention_mask: (N + Q, N + Q), True where a query (row) must not look; N denoising queries come first.
        groups: repetitions.
    """

    attention_mask: Tensor
    groups: int


@dataclass
class Prediction:
    """The answer of one decoder layer (or of the encoder, or for the denoising queries).

    A query's mask logits are the dot product of its embedding with the mask features, so that a mask is only made
    where somebody looks at it.

    Attributes:
        class_logits: (B, Q, K), before sigmoid.
        boxes_cxcywh: (B, Q, 4).
        mask_embeddings: (B, Q, C_mask), or None if this layer predicts no masks.
        mask_features: (B, C_mask, h, w), or None.
        mask_biases: (B, Q), added to the mask logits, or None.
    """

    class_logits: Tensor
    boxes_cxcywh: Tensor
    mask_embeddings: Tensor | None = None
    mask_features: Tensor | None = None
    mask_biases: Tensor | None = None

    @property
    def has_masks(self) -> bool:
        """Whether masks can be made of it."""
        return self.mask_embeddings is not None

    @property
    def mask_logits(self) -> Tensor:
        """(B, Q, h, w), before sigmoid."""
        features = self.mask_features.flatten(2)
        if self.mask_biases is None:
            logits = self.mask_embeddings @ features
        else:
            logits = torch.baddbmm(self.mask_biases[..., None], self.mask_embeddings, features)
        return logits.unflatten(2, self.mask_features.shape[2:])

    def of_queries(self, queries: slice) -> "Prediction":
        """The same prediction for a slice of the queries."""
        embeddings = None if self.mask_embeddings is None else self.mask_embeddings[:, queries]
        biases = None if self.mask_biases is None else self.mask_biases[:, queries]
        return Prediction(
            self.class_logits[:, queries], self.boxes_cxcywh[:, queries], embeddings, self.mask_features, biases
        )

    def of_image(self, image: int, queries: Tensor) -> "Prediction":
        """The prediction for some queries, an index tensor (N,), of one image; B becomes 1."""
        pick = lambda values: None if values is None else values[image, queries][None]  # noqa: E731
        features = None if self.mask_features is None else self.mask_features[image : image + 1]
        return Prediction(
            pick(self.class_logits), pick(self.boxes_cxcywh), pick(self.mask_embeddings), features,
            pick(self.mask_biases),
        )  # fmt: skip


@dataclass
class Target:
    """The objects of one training image.

    Attributes:
        classes: (T,), 0-based.
        boxes_cxcywh: (T, 4).
        masks: (T, H_mask, W_mask), bool, over the whole network input at any resolution; None without masks.
    """

    classes: Tensor
    boxes_cxcywh: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.classes)


@dataclass
class DenoisingPredictions:
    """Predictions for the noised targets, one for each decoder layer.

    Attributes:
        layers: predictions whose queries are `groups` repetitions of the (padded) targets.
        groups: repetitions.
    """

    layers: list[Prediction]
    groups: int


@dataclass
class ModelOutput:
    """All that the network answers.

    Attributes:
        layers: one prediction for each decoder layer that ran and was asked for, the last one last.
        encoder: the prediction of the selected encoder locations (training only).
        denoising: predictions for the noised targets (training only, None without targets).
    """

    layers: list[Prediction]
    encoder: Prediction | None = None
    denoising: DenoisingPredictions | None = None
