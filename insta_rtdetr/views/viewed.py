"""Evaluation of a network on views of each image."""

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn

from .finder import Finder, mask_form
from .tiling import Tiling, find_in_tiles


class ViewedNetwork(nn.Module):
    """Network that Detectron2's evaluation gives whole images, which it sees in tiles."""

    def __init__(self, cfg: CfgNode, network: nn.Module) -> None:
        """Wrap a network; `cfg` is its config, with TEST.TILE."""
        super().__init__()
        self.network = network
        self._finder = Finder(cfg, network)
        self._is_rgb = cfg.INPUT.FORMAT == "RGB"
        self._tiling = Tiling(cfg.TEST.TILE.SIZE, cfg.TEST.TILE.OVERLAP)
        self.train(network.training)

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """Find the objects in images.

        Args:
            batched_inputs: dicts with "image", uint8 (3, H, W), at its own size, channels as INPUT.FORMAT says.

        Returns:
            [{"instances": Instances}, ...] with `RleMasks`.
        """
        with mask_form(self.network, as_rle=True):
            found = [find_in_tiles(self._finder, self._rgb(one), self._tiling) for one in batched_inputs]
        return [{"instances": instances} for instances in found]

    def _rgb(self, one: dict[str, torch.Tensor]) -> np.ndarray:
        image = one["image"].permute(1, 2, 0).numpy()
        return image if self._is_rgb else image[:, :, ::-1]


def with_views(cfg: CfgNode, network: nn.Module) -> nn.Module:
    """Return what is evaluated: the network, or a `ViewedNetwork` where TEST.TILE asks for one."""
    return ViewedNetwork(cfg, network) if cfg.TEST.TILE.SIZE else network
