"""Convolutions that compute the frozen batch norm after them in the same pass, in training.

A separate frozen norm needs further passes for its product and sum, which took half of the forward time of a
MobileNetV2.  Parameters, buffers and their names do not change.
"""

import torchvision
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from timm.layers import Conv2dSame, pad_same
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import Tensor, nn

from .foldable import folded_kernel_and_bias


class ConvWithFrozenNorm(nn.Conv2d):
    """Convolution that also computes a frozen norm.

    Attributes:
        frozen_norm: the norm, in a tuple, because it is a child of another module.
    """

    frozen_norm: tuple[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution and norm: (B, C_in, h, w) -> (B, C_out, h', w')."""
        return self._conv_forward(x, *folded_kernel_and_bias(self, self.frozen_norm[0]))


class Conv2dSameWithFrozenNorm(Conv2dSame, ConvWithFrozenNorm):
    """timm's convolution with TensorFlow's padding that also computes a frozen norm."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution and norm: (B, C_in, h, w) -> (B, C_out, h', w')."""
        return ConvWithFrozenNorm.forward(self, pad_same(x, self.kernel_size, self.stride, self.dilation))


class Detectron2ConvWithFrozenNorm(Conv2d):
    """Detectron2's convolution, which contains a norm and an activation, with the frozen norm in the same pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution, norm and activation: (B, C_in, h, w) -> (B, C_out, h', w')."""
        if self.norm is None:  # it has been folded
            return super().forward(x)
        x = self._conv_forward(x, *folded_kernel_and_bias(self, self.norm))
        return x if self.activation is None else self.activation(x)


class _AppliedNorm(FrozenBatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the convolution, to which the norm is already applied."""
        return x


class _AppliedTorchvisionNorm(torchvision.ops.FrozenBatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the convolution, to which the norm is already applied."""
        return x


class _AppliedNormAct(FrozenBatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout and activation to the output of the convolution, to which the norm is already applied."""
        return self.act(self.drop(x))


WITH_FROZEN_NORM = {nn.Conv2d: ConvWithFrozenNorm, Conv2dSame: Conv2dSameWithFrozenNorm}
APPLIED = {
    FrozenBatchNorm2d: _AppliedNorm, torchvision.ops.FrozenBatchNorm2d: _AppliedTorchvisionNorm,
    FrozenBatchNormAct2d: _AppliedNormAct,
}  # fmt: skip


def merge_frozen_norm_(conv: nn.Conv2d, norm: nn.Module) -> None:
    """Let a convolution compute the norm after it, in place, if the norm is frozen.

    Nothing but the norm may read the convolution's output.  The modules stay the same objects and get another class.
    """
    if type(norm) in APPLIED and type(conv) in WITH_FROZEN_NORM:
        conv.frozen_norm = (norm,)
        conv.__class__, norm.__class__ = WITH_FROZEN_NORM[type(conv)], APPLIED[type(norm)]


def merge_inner_norm_(conv: Conv2d) -> None:
    """Let a convolution of Detectron2 compute its own norm in the same pass, in place, if the norm is frozen."""
    if type(conv) is Conv2d and type(conv.norm) is FrozenBatchNorm2d:
        conv.__class__ = Detectron2ConvWithFrozenNorm
