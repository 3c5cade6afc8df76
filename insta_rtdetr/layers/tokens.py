"""Linear projection of many tokens, and selection of some."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# With fewer tokens than this, a convolution is not faster than `F.linear`.
MIN_TOKENS = 1024
# The linear layer without a gradient that torch.compile takes on a CPU; None where PyTorch was built without oneDNN.
ONEDNN_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def project_tokens(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply `F.linear` to tokens, (B, S, C_in) -> (B, S, C_out), by the fastest of the equal ways that a CPU has.

    PyTorch's matrix product is MKL's, which is slow on processors of other makers.  Measured on an AMD EPYC, oneDNN's
    takes half of its time; it has no gradient.  Where one is needed, oneDNN's convolution with kernels of one pixel
    takes 0.6 of the time, forward and backward, given many tokens and several threads.  A program that is being traced
    gets a plain matrix product: its runtime has kernels of its own to choose from.
    """
    is_traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    is_float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if is_traced or x.device.type != "cpu" or not is_float32:
        return F.linear(x, weight, bias)
    if not _needs_gradient(x, weight, bias):
        return _onednn_linear(x, weight, bias)
    if x.shape[1] < MIN_TOKENS or torch.get_num_threads() == 1 or not x.is_contiguous():
        return F.linear(x, weight, bias)
    # (B, C_in, S, 1) with channels last.  The new axis is inserted before the channels, because PyTorch would not
    # recognise the layout if it were the last one.
    x = x[:, :, None].permute(0, 3, 1, 2)
    return F.conv2d(x, weight[..., None, None], bias).permute(0, 2, 3, 1)[:, :, 0]


def _needs_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply `F.linear` without a gradient, with oneDNN's kernel if there is one."""
    if ONEDNN_LINEAR is None or x.numel() == 0:
        return F.linear(x, weight, bias)
    # The kernel takes a bias for contiguous, even one that repeats a number with the stride 0, and reads beyond it.
    bias = None if bias is None else bias.contiguous()
    return ONEDNN_LINEAR(x.contiguous(), weight.contiguous(), bias, "none", [], "")


class TokenLinear(nn.Linear):
    """Linear layer that applies `project_tokens` to the tokens of all images at once."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C_in) to (..., C_out)."""
        tokens = x.reshape(1, -1, self.in_features)
        return project_tokens(tokens, self.weight, self.bias).view(*x.shape[:-1], self.out_features)


def take_rows(values: Tensor, index: Tensor) -> Tensor:
    """Take the rows (B, N) of values (B, Q, C): (B, N, C).

    It does not use `torch.gather`, because OpenVINO 2026.4 moves a slice of the channels after it and then rejects its
    own graph.
    """
    batch, num_rows = values.shape[:2]
    first = torch.arange(batch, device=index.device)[:, None] * num_rows
    return values.flatten(0, 1)[(index + first).flatten()].unflatten(0, index.shape)


def use_token_linear(model: nn.Module) -> None:
    """Turn every plain linear layer of a model of another package into a `TokenLinear` with the same parameters."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = TokenLinear
