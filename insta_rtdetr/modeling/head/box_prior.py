"""A mask starts as the ellipse in its query's box.

Shapes: B images, Q queries, C mask channels, (h, w) the mask map.
"""

import torch
from torch import Tensor, nn

from ...layers.precision import full_precision

# The smallest side of a box that makes an ellipse, as a fraction of the image: no division by zero.
MIN_SIDE = 1e-3


class BoxPrior(nn.Module):
    """Adds to a query's mask logits a bump that is positive in the ellipse that fills its box, and negative outside.

    Mask features look alike on objects that look alike, so that by themselves they do not tell one nucleus from
    another.  strength * (1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2) does, and it is a dot product of something of
    the query with (x, y, x ** 2, y ** 2): masks stay embeddings times features.  In float32: the products are large and
    nearly cancel.

    Source: ours; CondInst (https://arxiv.org/abs/2003.05664) gives its masks coordinates relative to the object for the
    same reason.
    """

    def __init__(self, strength: float = 2.0):
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(strength))

    def extend_features(self, mask_features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C + 4, h, w), the last four being x, y, x ** 2 and y ** 2 from -0.5 to 0.5."""
        features = full_precision(mask_features)
        height, width = features.shape[2:]
        y, x = (
            (torch.arange(side, device=features.device) + 0.5) / side - 0.5 for side in (height, width)
        )
        y, x = torch.meshgrid(y, x, indexing="ij")
        coordinates = torch.stack([x, y, x**2, y**2]).expand(features.shape[0], -1, -1, -1)
        return torch.cat([features, coordinates.to(features)], dim=1)

    def forward(self, embeddings: Tensor, biases: Tensor | None, boxes_cxcywh: Tensor) -> tuple[Tensor, Tensor]:
        """Extend what a query is compared with the features by.

        Args:
            embeddings: (B, Q, C).
            biases: (B, Q), or None.
            boxes_cxcywh: (B, Q, 4), in [0, 1]; masks do not teach boxes.

        Returns:
            (B, Q, C + 4) and (B, Q).
        """
        boxes = full_precision(boxes_cxcywh.detach())
        centre, radius = boxes[..., :2] - 0.5, boxes[..., 2:].clamp(min=MIN_SIDE) / 2
        curvature = -self.strength / radius**2  # (B, Q, 2)
        slope = -2 * curvature * centre
        height = self.strength + (curvature * centre**2).sum(-1)
        extended = torch.cat([full_precision(embeddings), slope, curvature], dim=-1)
        return extended, height if biases is None else height + biases
