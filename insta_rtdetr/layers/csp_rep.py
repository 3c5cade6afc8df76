"""Blocks of PP-YOLOE's backbone and pyramid: residual RepVGG blocks within cross-stage partial blocks.

Source: PP-YOLOE, https://arxiv.org/abs/2203.16250; the blocks are those of PP-YOLOE+, with scaled branches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import ConvNorm, RepVGGBlock


class RepResidualBlock(nn.Module):
    """A 3x3 convolution and a RepVGG block, with an optional shortcut around both."""

    def __init__(self, channels: int, has_shortcut: bool, is_scaled: bool = False):
        """Build the block.

        Args:
            channels: channels of input and output.
            has_shortcut: whether the input is added to the output.
            is_scaled: see `RepVGGBlock`.
        """
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3, activation=nn.SiLU)
        self.conv2 = RepVGGBlock(channels, nn.SiLU, is_scaled)
        self.has_shortcut = has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        y = self.conv2(self.conv1(x))
        return x + y if self.has_shortcut else y


class EffectiveSqueezeExcitation(nn.Module):
    """Weights of the channels, computed from their means by one linear map.

    Source: CenterMask, https://arxiv.org/abs/1911.06667
    """

    def __init__(self, channels: int):
        super().__init__()
        self.projection = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        return x * F.hardsigmoid(self.projection(x.mean((2, 3), keepdim=True)))


class CSPConcatBlock(nn.Module):
    """Cross-stage partial block: a chain of blocks beside a 1x1 convolution, joined by concatenation.

    Source: CSPNet, https://arxiv.org/abs/1911.11929
    """

    def __init__(
        self, in_channels: int, hidden: int, out_channels: int, blocks: nn.Module, attention: nn.Module | None = None
    ):
        """Build the block.

        Args:
            in_channels: channels of the input.
            hidden: channels of each of the two branches.
            out_channels: channels of the output.
            blocks: the chain, from `hidden` to `hidden` channels.
            attention: module that is applied to the joined branches.
        """
        super().__init__()
        self.conv1 = ConvNorm(in_channels, hidden, 1, activation=nn.SiLU)
        self.conv2 = ConvNorm(in_channels, hidden, 1, activation=nn.SiLU)
        self.blocks = blocks
        self.attention = nn.Identity() if attention is None else attention
        self.conv3 = ConvNorm(2 * hidden, out_channels, 1, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C_out, h, w)."""
        joined = torch.cat([self.conv1(x), self.blocks(self.conv2(x))], dim=1)
        return self.conv3(self.attention(joined))
