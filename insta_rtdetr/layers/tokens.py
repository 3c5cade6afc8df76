"""Linear maps of many tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor

# With fewer tokens than this the way through a convolution costs more than it saves.
MIN_TOKENS = 1024


def project_tokens(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.linear` of tokens, (B, S, C_in) -> (B, S, C_out), as a 1x1 convolution where that is faster.

    On a CPU with several threads, oneDNN's convolution takes 0.6 of the time of MKL's product of matrices (measured on
    an AMD EPYC).
    """
    is_faster = (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] >= MIN_TOKENS
        and torch.get_num_threads() > 1
        and not torch.is_grad_enabled()
        and x.is_contiguous()
    )
    if not is_faster:
        return F.linear(x, weight, bias)
    # (B, C_in, S, 1), channels last: the new axis must not come last, or the layout would not be seen as such.
    x = x[:, :, None].permute(0, 3, 1, 2)
    return F.conv2d(x, weight[..., None, None], bias).permute(0, 2, 3, 1)[:, :, 0]
