"""Convolution blocks of the RT-DETR family (convolution with batch norm, RepVGG, CSP), and one with any norm."""

from collections.abc import Callable

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn

from .foldable import Foldable, conv_like, fold_batch_norm, folded_kernel_and_bias


def norm_conv(
    in_channels: int, out_channels: int, kernel_size: int, norm: str,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Conv2d:  # fmt: skip
    """Build a convolution that keeps the size, with the norm of a name of Detectron2's; "" for a bias instead."""
    conv = Conv2d(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm == "",
        norm=get_norm(norm, out_channels), activation=activation,
    )  # fmt: skip
    weight_init.c2_xavier_fill(conv)
    return conv


def init_normal_(module: nn.Module, std: float = 0.01) -> None:
    """Draw the weights of all convolutions within a module from a normal distribution and set biases to 0, in place."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class ConvNorm(Foldable):
    """Convolution, batch norm and an optional activation; the padding keeps the size for a stride of 1."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, activation: type | None = None
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, (kernel_size - 1) // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.Identity() if activation is None else activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C_out, h / stride, w / stride)."""
        return self.activation(match_gradient_layout(self.norm(self.conv(x))))

    def fold_(self) -> None:
        """Fold the batch norm into the convolution.

        After that the activation works in place, because nothing else reads the convolution's output.
        """
        self.conv, self.norm = fold_batch_norm(self.conv, self.norm), nn.Identity()
        if isinstance(self.activation, nn.SiLU):
            self.activation = nn.SiLU(inplace=True)


def match_gradient_layout(x: Tensor) -> Tensor:
    """Give the gradient that arrives at a batch norm's output (B, C, h, w) the memory layout of that output.

    On CPU, PyTorch 2.11 reads the gradient for a batch of one image as if it had the layout of the input, and so
    computes a wrong gradient if the layouts differ.  They differ where the output is turned into tokens, whose channels
    come last.

    Returns:
        the argument `x`.
    """
    if x.requires_grad and x.shape[0] == 1:
        layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))
    return x


class RepVGGBlock(Foldable):
    """A 3x3 and a 1x1 convolution in parallel, each with batch norm, followed by an activation.

    Source: RepVGG, https://arxiv.org/abs/2101.03697
    """

    def __init__(self, channels: int, activation: type, is_scaled: bool = False):
        """Build the block.

        Args:
            channels: channels of input and output.
            activation: type of the activation.
            is_scaled: whether the 1x1 branch is multiplied by a learned number, as in PP-YOLOE+.
        """
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3)
        self.conv2 = ConvNorm(channels, channels, 1)
        self.scale = nn.Parameter(torch.ones(1)) if is_scaled else None
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        y = self.conv1(x)
        if self.conv2 is not None:
            branch = self.conv2(x)
            y = y + (branch if self.scale is None else self.scale * branch)
        return self.activation(y)

    def fold_(self) -> None:
        """Add the 1x1 kernel to the centre of the 3x3 kernel."""
        kernel, bias = folded_kernel_and_bias(self.conv1.conv, self.conv1.norm)
        point_kernel, point_bias = folded_kernel_and_bias(self.conv2.conv, self.conv2.norm)
        if self.scale is not None:
            point_kernel, point_bias = self.scale * point_kernel, self.scale * point_bias
        self.conv1.conv = conv_like(self.conv1.conv, kernel + F.pad(point_kernel, [1, 1, 1, 1]), bias + point_bias)
        self.conv1.norm = nn.Identity()
        self.conv2 = self.scale = None


class CSPRepBlock(Foldable):
    """Cross-stage partial block: the sum of a chain of RepVGG blocks and a 1x1 shortcut.

    Source: CSPNet, https://arxiv.org/abs/1911.11929, in the form of RT-DETR's CCFF.
    """

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int, expansion: float, activation: type):
        super().__init__()
        hidden = int(out_channels * expansion)
        self.conv1 = ConvNorm(in_channels, hidden, 1, activation=activation)
        self.conv2 = ConvNorm(in_channels, hidden, 1, activation=activation)
        self.blocks = nn.Sequential(*[RepVGGBlock(hidden, activation) for _ in range(num_blocks)])
        needs_expansion = hidden != out_channels
        self.conv3 = ConvNorm(hidden, out_channels, 1, activation=activation) if needs_expansion else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C_out, h, w)."""
        if self.conv2 is None:
            main, shortcut = self.conv1(x).chunk(2, dim=1)
        else:
            main, shortcut = self.conv1(x), self.conv2(x)
        return self.conv3(self.blocks(main) + shortcut)

    def fold_(self) -> None:
        """Join the two 1x1 convolutions into one of twice the width, which reads the input only once."""
        kernel1, bias1 = folded_kernel_and_bias(self.conv1.conv, self.conv1.norm)
        kernel2, bias2 = folded_kernel_and_bias(self.conv2.conv, self.conv2.norm)
        self.conv1.conv = conv_like(self.conv1.conv, torch.cat([kernel1, kernel2]), torch.cat([bias1, bias2]))
        self.conv1.norm = nn.Identity()
        self.conv2 = None
