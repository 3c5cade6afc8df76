"""Folding the linear parts inside a module into fewer ones, for inference."""

import torch
import torchvision
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from timm.layers import Conv2dSame
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

BATCH_NORMS = (
    nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d, torchvision.ops.FrozenBatchNorm2d, FrozenBatchNormAct2d,
)  # fmt: skip


class Foldable(nn.Module):
    """Module that can turn itself into a cheaper one with the same output in eval mode."""

    def fold_(self) -> None:
        """Fold the module in place.  This is irreversible; the folded module is for inference only."""
        raise NotImplementedError


@torch.no_grad()
def fold_(root: nn.Module) -> nn.Module:
    """Fold every `Foldable` and every Detectron2 convolution below `root` in place, outer ones first; return `root`."""
    # Autocast is off, because it would round the products of weights to half precision.
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        for module in list(root.modules()):
            if isinstance(module, Foldable):
                module.fold_()
            elif isinstance(module, Conv2d) and isinstance(module.norm, BATCH_NORMS):
                kernel, bias = folded_kernel_and_bias(module, module.norm)
                module.weight, module.bias, module.norm = nn.Parameter(kernel), nn.Parameter(bias), None
    return root


def folded_kernel_and_bias(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return kernel (C_out, C_in, k, k) and bias (C_out,) of a convolution and a batch norm, in eval mode, as one.

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
    """Return one convolution with a bias that computes what `conv` and then `norm` compute."""
    return conv_like(conv, *folded_kernel_and_bias(conv, norm))


def conv_like(conv: nn.Conv2d, kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return a convolution like `conv`, but with another kernel and bias."""
    shape = (conv.in_channels, kernel.shape[0], kernel.shape[2:], conv.stride, conv.padding, conv.dilation, conv.groups)
    if isinstance(conv, DeformConv2d):
        folded = DeformConv2d(*shape).to(kernel)
    else:
        kind = Conv2dSame if isinstance(conv, Conv2dSame) else nn.Conv2d
        folded = nn.utils.skip_init(kind, *shape, device=kernel.device, dtype=kernel.dtype)
    folded.weight.copy_(kernel)
    folded.bias.copy_(bias)
    return folded
