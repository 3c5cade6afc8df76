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

    @torch.no_grad()
    def __call__(self, images: list[np.ndarray], short_side: int = 0) -> list[Instances]:
        """Find objects.

        Args:
            images: uint8 (H, W, 3), RGB, of any sizes.
            short_side: short side of the network's input in pixels, at most with TEST.AUG.MAX_SIZE as its long side;
                0 for the size that INPUT says.

        Returns:
            one `Instances` on CPU for each image.

        Raises:
            UserError: the network gives something else than instances.
        """
        inputs = [self._as_input(image, 0 if self._has_fixed_size else short_side) for image in images]
        found: dict[int, Instances] = {}
        with self._fixed_size(short_side):
            for indices in self._groups(inputs):
                for i, output in zip(indices, self.module([inputs[i] for i in indices])):
                    found[i] = self._instances(output).to("cpu")
        return [found[i] for i in range(len(images))]

    @property
    def _has_fixed_size(self) -> bool:
        return isinstance(self.module, InstanceSegmenter) and bool(self.module.preprocessor.fixed_size)

    @contextmanager
    def _fixed_size(self, short_side: int) -> Iterator[None]:
        """Scale the size that a network stretches images to, for a `with` block, so that its short side is this."""
        if not (self._has_fixed_size and short_side):
            yield
            return
        preprocessor = self.module.preprocessor
        usual = preprocessor.fixed_size
        scale = min(short_side / min(usual), self.cfg.TEST.AUG.MAX_SIZE / max(usual))
        multiple = preprocessor.divisibility
        preprocessor.fixed_size = tuple(max(round(side * scale / multiple), 1) * multiple for side in usual)
        try:
            yield
        finally:
            preprocessor.fixed_size = usual

    def _as_input(self, image_rgb: np.ndarray, short_side: int) -> dict:
        """Turn an image into a dict like those that the mapper of a test dataset gives."""
        height, width = image_rgb.shape[:2]
        image = image_rgb if self.cfg.INPUT.FORMAT == "RGB" else image_rgb[:, :, ::-1]
        inputs = self.cfg.INPUT
        sides = (short_side, self.cfg.TEST.AUG.MAX_SIZE) if short_side else (inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST)
        image = T.ResizeShortestEdge([sides[0]] * 2, sides[1]).get_transform(image).apply_image(image)
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
