"""Assignment of objects to positions of the pyramid for the dense loss.

Shapes: S positions of all levels together, T objects of an image.
"""

import torch
from torch import Tensor

from ...structures import Match


@torch.no_grad()
def assign_positions(costs: list[Tensor], per_object: int) -> Match:
    """Assign to every object the positions that predict it at the lowest cost.

    A position that is among those of several objects goes to the object of lowest cost.

    Args:
        costs: for each image, the costs (S, T) of pairing positions and objects.
        per_object: number of positions for each object.

    Returns:
        pairs in which a position occurs at most once; `query` is the position.

    Source: SimOTA of YOLOX, https://arxiv.org/abs/2107.08430, with a fixed number of positions.
    """
    pairs = [_assign_image(cost, per_object) for cost in costs]
    return Match.from_images(pairs, costs[0].device)


def _assign_image(cost: Tensor, per_object: int) -> tuple[Tensor, Tensor]:
    if cost.shape[1] == 0:
        nothing = torch.zeros(0, dtype=torch.long, device=cost.device)
        return nothing, nothing
    # As in `assign`, the losses keep NaN and infinity, so that the trainer sees them.
    cost = torch.nan_to_num(cost, nan=1e5, posinf=1e5, neginf=-1e5)
    best = cost.topk(min(per_object, len(cost)), dim=0, largest=False).indices
    is_wanted = torch.zeros_like(cost, dtype=torch.bool).scatter(0, best, True)
    position = is_wanted.any(1).nonzero()[:, 0]
    wanted_cost = cost.masked_fill(~is_wanted, torch.inf)[position]
    return position, wanted_cost.argmin(1)
