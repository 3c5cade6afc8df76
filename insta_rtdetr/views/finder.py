"""Finding objects in images with a network of Detectron2 or of this package."""

from collections.abc import Iterator
from contextlib import contextmanager

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

from insta_rtdetr.errors import UserError
from insta_rtdetr.layers.mask_resize import paste
from insta_rtdetr.layers.rle_masks import encode_pieces
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter


class Finder:
    """Network that takes images as they are, and resizes them as its config says.

    Attributes:
        cfg: config of the network.
        module: the network, a Detectron2 meta-architecture.
    """

    def __init__(self, cfg: CfgNode, module: nn.Module) -> None:
        self.cfg, self.module = cfg, module
        self._resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)

    @torch.no_grad()
    def __call__(self, images: list[np.ndarray]) -> list[Instances]:
        """Find objects.

        Args:
            images: uint8 (H, W, 3), RGB, of any sizes.

        Returns:
            one `Instances` on CPU for each image.

        Raises:
            UserError: the network gives something else than instances.
        """
        inputs = [self._as_input(image) for image in images]
        found: dict[int, Instances] = {}
        for indices in self._groups(inputs):
            for i, output in zip(indices, self.module([inputs[i] for i in indices])):
                found[i] = self._instances(output).to("cpu")
        return [found[i] for i in range(len(images))]

    def _as_input(self, image_rgb: np.ndarray) -> dict:
        """Turn an image into a dict like those that the mapper of a test dataset gives."""
        height, width = image_rgb.shape[:2]
        image = image_rgb if self.cfg.INPUT.FORMAT == "RGB" else image_rgb[:, :, ::-1]
        image = self._resize.get_transform(image).apply_image(image)
        return {"image": torch.tensor(image.transpose(2, 0, 1).copy()), "height": height, "width": width}

    def _groups(self, inputs: list[dict]) -> list[list[int]]:
        """Return the indices of the images, in groups that go through the model together."""
        if isinstance(self.module, InstanceSegmenter):
            return [list(range(len(inputs)))]
        # Detectron2's models pad the images of a batch, and the padding changes the result a little.
        groups: dict[torch.Size, list[int]] = {}
        for i, one in enumerate(inputs):
            groups.setdefault(one["image"].shape, []).append(i)
        return list(groups.values())

    def _instances(self, output: dict) -> Instances:
        if "instances" not in output:
            architecture = self.cfg.MODEL.META_ARCHITECTURE
            raise UserError(f"{architecture} gives {', '.join(output)}, wanted instances.  Choose another config.")
        return output["instances"]


@contextmanager
def mask_form(module: nn.Module, as_rle: bool) -> Iterator[None]:
    """Make a model of this package return its masks as `RleMasks` or as tensors in a `with` block."""
    if not isinstance(module, InstanceSegmenter):
        yield
        return
    postprocessor = module.postprocessor
    assemble, postprocessor.assemble = postprocessor.assemble, encode_pieces if as_rle else paste
    try:
        yield
    finally:
        postprocessor.assemble = assemble
