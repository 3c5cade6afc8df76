"""Convolutions that compute the frozen batch norm behind them in the same pass, in training.

By itself a frozen norm multiplies and adds in passes of its own, and took half of the forward pass of a MobileNetV2.
Parameters, buffers and their names stay as they are.
"""

import torchvision
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from timm.layers import Conv2dSame, pad_same
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import Tensor, nn

from .foldable import folded_kernel_and_bias


class ConvWithFrozenNorm(nn.Conv2d):
    """Convolution and frozen norm in one.

    Attributes:
        frozen_norm: the norm, in a tuple, because it is a child of another module.
    """

    frozen_norm: tuple[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h', w')."""
        return self._conv_forward(x, *folded_kernel_and_bias(self, self.frozen_norm[0]))


class Conv2dSameWithFrozenNorm(Conv2dSame, ConvWithFrozenNorm):
    """The same for timm's convolution with TensorFlow's padding."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h', w')."""
        return ConvWithFrozenNorm.forward(self, pad_same(x, self.kernel_size, self.stride, self.dilation))


class Detectron2ConvWithFrozenNorm(Conv2d):
    """The same for Detectron2's convolution, which contains its norm and its activation."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h', w')."""
        if self.norm is None:  # it has been folded
            return super().forward(x)
        x = self._conv_forward(x, *folded_kernel_and_bias(self, self.norm))
        return x if self.activation is None else self.activation(x)


class _AppliedNorm(FrozenBatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        """Return what the convolution has computed."""
        return x


class _AppliedTorchvisionNorm(torchvision.ops.FrozenBatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        """Return what the convolution has computed."""
        return x


class _AppliedNormAct(FrozenBatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        """Activate what the convolution has computed."""
        return self.act(self.drop(x))


WITH_FROZEN_NORM = {nn.Conv2d: ConvWithFrozenNorm, Conv2dSame: Conv2dSameWithFrozenNorm}
APPLIED = {
    FrozenBatchNorm2d: _AppliedNorm, torchvision.ops.FrozenBatchNorm2d: _AppliedTorchvisionNorm,
    FrozenBatchNormAct2d: _AppliedNormAct,
}  # fmt: skip


def merge_frozen_norm_(conv: nn.Conv2d, norm: nn.Module) -> None:
    """Let a convolution compute the norm that alone reads its output, if the norm is frozen, in place.

    Only the forward passes of the two modules change, so they remain the same objects, of another class.
    """
    if type(norm) in APPLIED and type(conv) in WITH_FROZEN_NORM:
        conv.frozen_norm = (norm,)
        conv.__class__, norm.__class__ = WITH_FROZEN_NORM[type(conv)], APPLIED[type(norm)]


def merge_inner_norm_(conv: Conv2d) -> None:
    """The same for a convolution of Detectron2."""
    if type(conv) is Conv2d and type(conv.norm) is FrozenBatchNorm2d:
        conv.__class__ = Detectron2ConvWithFrozenNorm
