"""Mask features of Insta-RT-DETR: a fine backbone level fused with the finest level of the pyramid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.conv import ConvNorm
from ...layers.foldable import Foldable, conv_like, folded_kernel_and_bias


class MaskFusion(Foldable):
    """Adds the projected backbone level and the upsampled pyramid level, and smooths the sum by a 3x3 convolution."""

    def __init__(self, in_channels: int, hidden_dim: int, mask_dim: int, activation: type):
        super().__init__()
        self.projection = ConvNorm(in_channels, hidden_dim, 1)
        self.lateral = ConvNorm(hidden_dim, mask_dim, 1, activation=activation)
        same_width = mask_dim == hidden_dim
        self.level_projection = nn.Identity() if same_width else ConvNorm(hidden_dim, mask_dim, 1)
        self.output = ConvNorm(mask_dim, mask_dim, 3, activation=activation)

    def forward(self, fine: Tensor, levels: list[Tensor]) -> Tensor:
        """Make the mask features.

        Args:
            fine: (B, C_in, h, w), a backbone level.
            levels: the pyramid, of which only the first and finest level, (B, C, h', w'), is read.

        Returns:
            (B, C_mask, h, w).
        """
        lateral = self.lateral(self.projection(fine))
        enlarged = F.interpolate(self.level_projection(levels[0]), size=fine.shape[2:], mode="bilinear")
        return self.output(enlarged.add_(lateral))

    def fold_(self) -> None:
        """Compose the projection and the lateral convolution, which have no activation between them."""
        inner, inner_bias = folded_kernel_and_bias(self.projection.conv, self.projection.norm)
        outer, outer_bias = folded_kernel_and_bias(self.lateral.conv, self.lateral.norm)
        kernel = torch.einsum("omxy,mixy->oixy", outer, inner)
        bias = outer[:, :, 0, 0] @ inner_bias + outer_bias
        self.lateral.conv, self.lateral.norm = conv_like(self.projection.conv, kernel, bias), nn.Identity()
        self.projection = nn.Identity()
