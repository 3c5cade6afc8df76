"""Mask prior that makes a mask start as the ellipse in its query's box.

Shapes: B images, Q queries, C mask channels, (h, w) the mask map.
"""

import torch
from torch import Tensor, nn

from ...layers.precision import full_precision

# Shorter box sides, as a fraction of the image, are lengthened to this, which avoids a division by zero.
MIN_SIDE = 1e-3


class BoxPrior(nn.Module):
    """Adds a term to a query's mask logits that is positive in the ellipse inscribed in its box, and negative outside.

    Mask features are similar on objects that look alike, so by themselves they do not tell one nucleus from another.
    The term strength * (1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2) does.  It is a bias plus the dot product of
    four numbers of the query with (x, y, x ** 2, y ** 2), so that masks remain embeddings times features.  It is
    computed at least in float32, because the products are large and nearly cancel.

    Source: our own.  CondInst (https://arxiv.org/abs/2003.05664) gives its masks coordinates relative to the object for
    the same reason.
    """

    def __init__(self, strength: float = 2.0):
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(strength))

    def extend_features(self, mask_features: Tensor) -> Tensor:
        """Append channels x, y, x ** 2, y ** 2, with x and y from -0.5 to 0.5: (B, C, h, w) -> (B, C + 4, h, w)."""
        features = full_precision(mask_features)
        height, width = features.shape[2:]
        y, x = (
            (torch.arange(side, device=features.device) + 0.5) / side - 0.5 for side in (height, width)
        )
        y, x = torch.meshgrid(y, x, indexing="ij")
        coordinates = torch.stack([x, y, x**2, y**2]).expand(features.shape[0], -1, -1, -1)
        return torch.cat([features, coordinates.to(features)], dim=1)

    def forward(self, embeddings: Tensor, biases: Tensor | None, boxes_cxcywh: Tensor) -> tuple[Tensor, Tensor]:
        """Extend the mask embeddings and biases of the queries by the ellipses of their boxes.

        Args:
            embeddings: (B, Q, C).
            biases: (B, Q), or None.
            boxes_cxcywh: (B, Q, 4), in [0, 1]; they get no gradient.

        Returns:
            embeddings (B, Q, C + 4) and biases (B, Q).
        """
        boxes = full_precision(boxes_cxcywh.detach())
        centre, radius = boxes[..., :2] - 0.5, boxes[..., 2:].clamp(min=MIN_SIDE) / 2
        curvature = -self.strength / radius**2  # (B, Q, 2)
        slope = -2 * curvature * centre
        height = self.strength + (curvature * centre**2).sum(-1)
        extended = torch.cat([full_precision(embeddings), slope, curvature], dim=-1)
        return extended, height if biases is None else height + biases
