"""Which cells of SOLOv2's grids answer for which object: those around its centre, on the grids for its size.

Shapes: T objects of an image, S cells along each side of a grid, N pairs of a cell and an object.
Source: SOLOv2, https://arxiv.org/abs/2003.10152
"""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from ...structures import Match, Prediction, Target
from .matcher import MATCHER_REGISTRY

# Of the mask map, in pixels.
MASK_STRIDE = 4


@MATCHER_REGISTRY.register()
class GridMatcher(nn.Module):
    """Pairs each object with up to 3 x 3 cells of every grid whose range of sizes it is in.

    A cell may be paired with several objects, and an object with no cell.
    """

    @configurable
    def __init__(
        self, *, grid_sides: Sequence[int], scale_ranges: Sequence[tuple[float, float]], centre_size: float
    ):
        """Build the matcher.

        Args:
            grid_sides: `S` of each grid.
            scale_ranges: smallest and largest object of each grid: the square root of the area of its box, in pixels.
            centre_size: sides of the region around an object's centre of mass, as a fraction of those of its box.

        Raises:
            ValueError: there is not one range for each grid.
        """
        super().__init__()
        if len(scale_ranges) != len(grid_sides):
            raise ValueError(
                f"MODEL.MATCHER.SCALE_RANGES has {len(scale_ranges)} ranges, and MODEL.DECODER.GRID_SIDES "
                f"{len(grid_sides)} grids. Give one range for each grid."
            )
        self.grid_sides, self.centre_size = tuple(grid_sides), centre_size
        self.scale_ranges = [tuple(limits) for limits in scale_ranges]

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.MATCHER.{SCALE_RANGES, CENTRE_SIZE} and MODEL.DECODER.GRID_SIDES."""
        return {
            "grid_sides": cfg.MODEL.DECODER.GRID_SIDES,
            "scale_ranges": cfg.MODEL.MATCHER.SCALE_RANGES,
            "centre_size": cfg.MODEL.MATCHER.CENTRE_SIZE,
        }

    @torch.no_grad()
    def forward(self, predictions: list[Prediction], targets: list[Target]) -> list[Match]:
        """Match every prediction with the same targets; the targets have masks.

        Returns:
            one match for each prediction, the same for all; the queries are the cells, grid by grid and row by row.
        """
        input_size = [MASK_STRIDE * side for side in predictions[0].mask_features.shape[2:]]
        device = predictions[0].class_logits.device
        match = Match.from_images([self._pairs(target, input_size) for target in targets], device)
        return [match] * len(predictions)

    def _pairs(self, target: Target, input_size: list[int]) -> tuple[Tensor, Tensor]:
        """Return the indices of cells and objects, (N,) each."""
        centres, areas = centres_of_mass(target.masks)
        # In float64, because a centre may lie between two cells.
        sizes = target.boxes_cxcywh[:, [3, 2]].double()
        scales = (sizes * sizes.new_tensor(input_size)).prod(1).sqrt()
        mask_size = sizes.new_tensor(target.masks.shape[1:])
        halves = 0.5 * self.centre_size * sizes * mask_size
        first, pairs = 0, []
        for side, (smallest, largest) in zip(self.grid_sides, self.scale_ranges, strict=True):
            is_here = (scales >= smallest) & (scales <= largest) & (areas > 0)
            cells, objects = _cells_around(centres, halves, mask_size, side, is_here)
            pairs.append((first + cells, objects))
            first += side**2
        cells, objects = zip(*pairs, strict=True)
        return torch.cat(cells), torch.cat(objects)


def centres_of_mass(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean row and column (T, 2), float64, and the number (T,) of the pixels of masks (T, H, W)."""
    areas = masks.sum((1, 2))
    means = [
        masks.sum(other).double() @ torch.arange(side, device=masks.device, dtype=torch.float64)
        for other, side in ((2, masks.shape[1]), (1, masks.shape[2]))
    ]
    return torch.stack(means, dim=1) / areas.clamp(min=1)[:, None], areas


def _cells_around(
    centres: Tensor, halves: Tensor, mask_size: Tensor, side: int, is_here: Tensor
) -> tuple[Tensor, Tensor]:
    """Return cells of a grid and objects, (N,) each, for the objects that `is_here` (T,) names.

    Args:
        centres: (T, 2), y and x in pixels.
        halves: (T, 2), half the height and width of the region around each centre, in pixels.
        mask_size: (2,), height and width of the masks.
        side: `S`.
    """
    own, low, high = (_cell_of(places / mask_size, side) for places in (centres, centres - halves, centres + halves))
    near = own[:, None] + torch.arange(-1, 2, device=own.device)[:, None]  # (T, 3, 2)
    is_near = (near >= low.clamp(min=0)[:, None]) & (near <= high.clamp(max=side - 1)[:, None])
    is_paired = is_near[:, :, None, 0] & is_near[:, None, :, 1] & is_here[:, None, None]  # (T, 3, 3)
    objects, row, column = is_paired.nonzero().unbind(1)
    return near[objects, row, 0] * side + near[objects, column, 1], objects


def _cell_of(places: Tensor, side: int) -> Tensor:
    """Return the cells (T, 2) of places (T, 2) in [0, 1].

    The quotient by the rounded side of a cell, as the original has it, decides about places between two cells.
    """
    return torch.div(places, 1 / side, rounding_mode="floor").long()
