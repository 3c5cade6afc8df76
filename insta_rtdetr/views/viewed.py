"""Evaluation of a network on views of each image."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

from .augmentation import Augmentation, augmentation_of_config, find_in_views
from .finder import Finder, mask_form
from .tiling import Tiling, find_in_tiles


@dataclass(frozen=True)
class Views:
    """How images are seen.

    Attributes:
        tiling: tiles that images are cut into; None for none.
        augmentation: views of each image, or of each tile; None for the image or the tile alone.
    """

    tiling: Tiling | None = None
    augmentation: Augmentation | None = None


class ViewedNetwork(nn.Module):
    """Network that Detectron2's evaluation gives whole images, which it sees in tiles, in augmented views, or both."""

    def __init__(self, cfg: CfgNode, network: nn.Module) -> None:
        """Wrap a network.

        Args:
            cfg: its config, with TEST.TILE and TEST.AUG.
            network: the network.

        Raises:
            UserError: TEST.TILE or TEST.AUG has a wrong value.
        """
        super().__init__()
        self.network = network
        self._is_rgb = cfg.INPUT.FORMAT == "RGB"
        views = views_of_config(cfg)
        self._tiling, self._find = views.tiling, Finder(cfg, network)
        if views.augmentation:
            self._find = functools.partial(find_in_views, self._find, augmentation=views.augmentation)
        self.train(network.training)

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """Find the objects in images.

        Args:
            batched_inputs: dicts with "image", uint8 (3, H, W), at its own size, channels as INPUT.FORMAT says.

        Returns:
            [{"instances": Instances}, ...] with `RleMasks`.
        """
        with mask_form(self.network, as_rle=True):
            found = [self._objects(self._rgb(one)) for one in batched_inputs]
        return [{"instances": instances} for instances in found]

    def _objects(self, image: np.ndarray) -> Instances:
        return find_in_tiles(self._find, image, self._tiling) if self._tiling else self._find([image])[0]

    def _rgb(self, one: dict[str, torch.Tensor]) -> np.ndarray:
        image = one["image"].permute(1, 2, 0).numpy()
        return image if self._is_rgb else image[:, :, ::-1]


def views_of_config(cfg: CfgNode) -> Views:
    """Return the views of TEST.TILE and TEST.AUG in an evaluation; errors are those of `Tiling` and `Augmentation`."""
    tile, augmentation = cfg.TEST.TILE, cfg.TEST.AUG
    return Views(
        Tiling(tile.SIZE, tile.OVERLAP) if tile.SIZE else None,
        augmentation_of_config(cfg) if augmentation.ENABLED else None,
    )


def with_views(cfg: CfgNode, network: nn.Module) -> nn.Module:
    """Return what is evaluated: the network, or a `ViewedNetwork` where TEST.TILE or TEST.AUG asks for one."""
    return ViewedNetwork(cfg, network) if cfg.TEST.TILE.SIZE or cfg.TEST.AUG.ENABLED else network
