"""Mask features of Mask-RT-DETR: all levels of the pyramid and a fine backbone level, fused.

Source: the mask branch of Mask-RT-DETR, https://github.com/PaddlePaddle/PaddleDetection/tree/666f597.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.conv import ConvNorm


class MaskPyramid(nn.Module):
    """Upsamples each level step by step to the finest one's size, and fuses their sum with a finer backbone level."""

    def __init__(self, in_channels: int, hidden_dim: int, num_levels: int, pyramid_dim: int, feature_dim: int):
        super().__init__()
        # Level i is upsampled i times, each time after a convolution; the finest level has one convolution too.
        self.level_convs = nn.ModuleList(
            nn.ModuleList(_conv(hidden_dim if k == 0 else pyramid_dim, pyramid_dim) for k in range(max(1, i)))
            for i in range(num_levels)
        )
        self.fusion = _conv(pyramid_dim, feature_dim)
        self.lateral = _conv(in_channels, feature_dim)
        self.output = _conv(feature_dim, feature_dim)

    def forward(self, fine: Tensor, levels: list[Tensor]) -> Tensor:
        """Make the mask features.

        Args:
            fine: (B, C_in, h, w), a backbone level.
            levels: L tensors (B, C, h', w'), finest first.

        Returns:
            (B, C_feature, h, w).
        """
        sizes = [level.shape[2:] for level in levels]
        fused = self.level_convs[0][0](levels[0])
        for i in range(1, len(levels)):
            x = levels[i]
            for conv, size in zip(self.level_convs[i], reversed(sizes[:i]), strict=True):
                x = _enlarge(conv(x), size)
            fused = fused + x
        enlarged = _enlarge(self.fusion(fused), fine.shape[2:])
        return self.output(enlarged.add_(self.lateral(fine)))


def _conv(in_channels: int, out_channels: int) -> ConvNorm:
    return ConvNorm(in_channels, out_channels, 3, activation=nn.SiLU)


def _enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear")
