"""Modules whose inner linear parts can be folded into fewer ones for inference."""

import torch
import torchvision
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

BATCH_NORMS = (
    nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d, torchvision.ops.FrozenBatchNorm2d, FrozenBatchNormAct2d,
)  # fmt: skip


class Foldable(nn.Module):
    """A module that can rewrite itself into a cheaper one with the same answer in eval mode."""

    def fold_(self) -> None:
        """Fold in place.  Irreversible; the folded module is for inference only."""
        raise NotImplementedError


@torch.no_grad()
def fold_(root: nn.Module) -> nn.Module:
    """Fold every `Foldable` and Detectron2 convolution below `root`, the outer ones first, in place; return `root`."""
    # Products of weights must not be rounded to half precision because the caller runs under autocast.
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        for module in list(root.modules()):
            if isinstance(module, Foldable):
                module.fold_()
            elif isinstance(module, Conv2d) and isinstance(module.norm, BATCH_NORMS):
                kernel, bias = folded_kernel_and_bias(module, module.norm)
                module.weight, module.bias, module.norm = nn.Parameter(kernel), nn.Parameter(bias), None
    return root


def folded_kernel_and_bias(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Kernel (C_out, C_in, k, k) and bias (C_out,) of a convolution followed by a batch norm in eval mode.

    Raises:
        TypeError: `norm` is neither a batch norm nor an identity.
    """
    bias = conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.out_channels)
    if isinstance(norm, nn.Identity):
        return conv.weight, bias
    if not isinstance(norm, BATCH_NORMS):
        raise TypeError(f"cannot fold a {type(norm).__name__} into a convolution; only batch norms can be folded.")
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale.reshape(-1, 1, 1, 1), norm.bias + (bias - norm.running_mean) * scale


def fold_batch_norm(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """One convolution with a bias that does what `conv` and then `norm` do."""
    return conv_like(conv, *folded_kernel_and_bias(conv, norm))


def conv_like(conv: nn.Conv2d, kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution with the stride, padding, dilation and groups of `conv` and another kernel and bias."""
    shape = (conv.in_channels, kernel.shape[0], kernel.shape[2:], conv.stride, conv.padding, conv.dilation, conv.groups)
    if isinstance(conv, DeformConv2d):
        folded = DeformConv2d(*shape).to(kernel)
    else:
        folded = nn.utils.skip_init(nn.Conv2d, *shape, device=kernel.device, dtype=kernel.dtype)
    folded.weight.copy_(kernel)
    folded.bias.copy_(bias)
    return folded
