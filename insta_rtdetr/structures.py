"""What passes between the rooms.

Letters: B images, Q queries, K classes, T objects of one image, L pyramid levels, C channels, (H, W) the network's
input and (h, w) the mask map, in pixels.  Boxes named cxcywh are (centre x, centre y, width, height) in [0, 1] of the
network's input, padding included.
"""

from dataclasses import dataclass
from typing import Optional

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
class Prediction:
    """The answer of one decoder layer (or of the encoder, or for the denoising queries).

    A query's mask logits are the dot product of its embedding with the mask features, so that a mask is only made
    where somebody looks at it.

    Attributes:
        class_logits: (B, Q, K), before sigmoid.
        boxes_cxcywh: (B, Q, 4).
        mask_embeddings: (B, Q, C_mask), or None if this layer predicts no masks.
        mask_features: (B, C_mask, h, w), or None.
    """

    class_logits: Tensor
    boxes_cxcywh: Tensor
    mask_embeddings: Optional[Tensor] = None
    mask_features: Optional[Tensor] = None

    @property
    def mask_logits(self) -> Tensor:
        """(B, Q, h, w), before sigmoid."""
        return torch.einsum("bqc,bchw->bqhw", self.mask_embeddings, self.mask_features)

    def __getitem__(self, queries: slice) -> "Prediction":
        """The same prediction for a slice of the queries."""
        embeddings = None if self.mask_embeddings is None else self.mask_embeddings[:, queries]
        return Prediction(
            self.class_logits[:, queries], self.boxes_cxcywh[:, queries], embeddings, self.mask_features
        )


@dataclass
class Target:
    """The objects of one training image.

    Attributes:
        classes: (T,), 0-based.
        boxes_cxcywh: (T, 4).
        masks: (T, H_mask, W_mask), float, 0 or 1, over the whole network input at any resolution; None without masks.
    """

    classes: Tensor
    boxes_cxcywh: Tensor
    masks: Optional[Tensor] = None

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
    encoder: Optional[Prediction] = None
    denoising: Optional[DenoisingPredictions] = None
