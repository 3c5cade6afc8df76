"""More queries in training, several of which answer for each object, beside those of which one does.

Source: H-DETR, https://arxiv.org/abs/2207.13080
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...structures import Prediction, Queries


def isolate(attention_mask: Tensor | None, num_before: int, num_added: int, device: torch.device) -> Tensor:
    """Attention mask (N + M, N + M) of N queries and M after them, which do not look at each other; True: not to look.

    Args:
        attention_mask: (N, N), of the first N; None: they all look at each other.
        num_before: `N`.
        num_added: `M`.
    """
    if attention_mask is None:
        attention_mask = torch.zeros(num_before, num_before, dtype=torch.bool, device=device)
    mask = F.pad(attention_mask, (0, num_added, 0, num_added), value=True)
    mask[num_before:, num_before:] = False
    return mask


def join_queries(*parts: Queries) -> Queries:
    """The queries of all parts, one part after the other."""
    return Queries(
        torch.cat([part.content for part in parts], dim=1),
        torch.cat([part.reference_logits for part in parts], dim=1),
    )


def split_queries(layers: list[Prediction], sizes: list[int]) -> list[list[Prediction]]:
    """The predictions of all layers for each of some parts of the queries, of `sizes` queries."""
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [
        [layer.slice_queries(slice(end - size, end)) for layer in layers] for end, size in zip(ends, sizes, strict=True)
    ]
