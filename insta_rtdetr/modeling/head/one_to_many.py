"""Helpers for one-to-many queries: extra queries in training, several of which are matched with each object.

Source: H-DETR, https://arxiv.org/abs/2207.13080
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...structures import Prediction, Queries


def extend_attention_mask(
    attention_mask: Tensor | None, num_before: int, num_added: int, device: torch.device
) -> Tensor:
    """Extend the attention mask of N queries by M queries that attend only to each other and are seen by no other.

    Args:
        attention_mask: (N, N), True where a query (row) must not attend; None if all may attend to each other.
        num_before: `N`.
        num_added: `M`.

    Returns:
        (N + M, N + M), bool.
    """
    if attention_mask is None:
        attention_mask = torch.zeros(num_before, num_before, dtype=torch.bool, device=device)
    mask = F.pad(attention_mask, (0, num_added, 0, num_added), value=True)
    mask[num_before:, num_before:] = False
    return mask


def join_queries(*parts: Queries) -> Queries:
    """Concatenate parts of the queries in the given order."""
    return Queries(
        torch.cat([part.content for part in parts], dim=1),
        torch.cat([part.reference_logits for part in parts], dim=1),
    )


def split_queries(layers: list[Prediction], sizes: list[int]) -> list[list[Prediction]]:
    """Split each layer's prediction into parts of `sizes` queries; return a list of layers for each part."""
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [
        [layer.slice_queries(slice(end - size, end)) for layer in layers] for end, size in zip(ends, sizes, strict=True)
    ]
