"""Which positions of the pyramid learn to predict which object, where every position is taught.

Shapes: S positions of all levels together, T objects of an image.
"""

import torch
from torch import Tensor

from ...structures import Match


@torch.no_grad()
def assign_positions(costs: list[Tensor], per_object: int) -> Match:
    """Give every object the positions that predict it best; a position that several objects want goes to the cheapest.

    Args:
        costs: (S, T) of each image, what it costs that a position predicts an object.
        per_object: positions that an object wants.

    Returns:
        The pairs, in which a position occurs at most once, and `query` is the position.
    Source: the dynamic assignment of YOLOX (https://arxiv.org/abs/2107.08430), with a fixed number of positions.
    """
    pairs = [_assign_image(cost, per_object) for cost in costs]
    return Match.from_images(pairs, costs[0].device)


def _assign_image(cost: Tensor, per_object: int) -> tuple[Tensor, Tensor]:
    if cost.shape[1] == 0:
        nothing = torch.zeros(0, dtype=torch.long, device=cost.device)
        return nothing, nothing
    # As in the one-to-one assignment: losses keep what is not finite, so that the trainer sees it.
    cost = torch.nan_to_num(cost, nan=1e5, posinf=1e5, neginf=-1e5)
    best = cost.topk(min(per_object, len(cost)), dim=0, largest=False).indices
    is_wanted = torch.zeros_like(cost, dtype=torch.bool).scatter(0, best, True)
    position = is_wanted.any(1).nonzero()[:, 0]
    wanted_cost = cost.masked_fill(~is_wanted, torch.inf)[position]
    return position, wanted_cost.argmin(1)
