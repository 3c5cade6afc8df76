"""Multi-layer perceptron."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tokens import TokenLinear


class MLP(nn.Module):
    """Multi-layer perceptron: linear layers with ReLU between them."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int):
        super().__init__()
        widths = [in_dim] + [hidden_dim] * (num_layers - 1) + [out_dim]
        self.layers = nn.ModuleList(TokenLinear(n, m) for n, m in zip(widths[:-1], widths[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., out_dim)."""
        # A layer may return a view, and autograd copies what is changed through one.
        for layer in self.layers[:-1]:
            x = F.relu(layer(x), inplace=not torch.is_grad_enabled())
        return self.layers[-1](x)
