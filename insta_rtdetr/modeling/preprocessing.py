"""Step 1: the mapper's images and instances -> the network's input and its targets.

Shapes: B images, (H, W) the network's input.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, ImageList, Instances
from PIL import Image
from torch import Tensor, nn

from ..layers.boxes import xyxy_to_cxcywh
from ..structures import Target
from .postprocessing import ImageSize


@dataclass
class Batch:
    """Images that are padded to one size.

    Attributes:
        images: (B, 3, H, W), normalised.
        sizes: the place of each image in the input.
    """

    images: Tensor
    sizes: list[ImageSize]


class Preprocessor(nn.Module):
    """Resizes, normalises and pads images, and makes targets."""

    def __init__(
        self, pixel_mean: list[float], pixel_std: list[float], fixed_size: tuple[int, int] | tuple[()],
        multi_scale: tuple[int, ...], divisibility: int,
    ):  # fmt: skip
        """Set up the preprocessor.

        Args:
            pixel_mean: mean of each channel, from 0 to 255.
            pixel_std: standard deviation of each channel in the same unit.
            fixed_size: (height, width) in pixels to which images are stretched; empty to keep their size.
            multi_scale: sides in pixels, one of which is drawn for each training batch; empty for none.
            divisibility: number of pixels to whose multiples the input's sides are padded.

        Raises:
            ValueError: the fixed size is not empty and not two positive integers, a scale is not a positive integer, or
                there are scales but no fixed size.
        """
        super().__init__()
        if fixed_size and (len(fixed_size) != 2 or not _are_sides(fixed_size)):
            raise ValueError(f"INPUT.FIXED_SIZE must be (height, width) in pixels or empty, got {tuple(fixed_size)}.")
        if not _are_sides(multi_scale):
            raise ValueError(f"INPUT.MULTI_SCALE must be sides in pixels or empty, got {tuple(multi_scale)}.")
        if multi_scale and not fixed_size:
            raise ValueError("INPUT.MULTI_SCALE needs INPUT.FIXED_SIZE: images of one shape are rescaled together.")
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self._mean_and_std = [list(pixel_mean), list(pixel_std)]
        self.fixed_size, self.multi_scale = tuple(fixed_size), tuple(multi_scale)
        self.divisibility = divisibility

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Preprocessor":
        # .to() and .double() call this.  Without it, numbers that were rounded to float32 would stay so in float64.
        super()._apply(fn, recurse)
        for buffer, numbers in zip((self.pixel_mean, self.pixel_std), self._mean_and_std, strict=True):
            buffer.copy_(torch.tensor(numbers, dtype=torch.float64).view(-1, 1, 1))
        return self

    @property
    def device(self) -> torch.device:
        """Return the device of the batches."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> Batch:
        """Make one batch, in which images of different sizes are padded at the right and the bottom."""
        images = [self._fit(inputs["image"]).to(self.device) for inputs in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        stacked = ImageList.from_tensors(images, self.divisibility)
        padded = tuple(stacked.tensor.shape[2:])
        sizes = [
            ImageSize(_output_size(inputs), tuple(image.shape[1:]), padded)
            for inputs, image in zip(batched_inputs, images, strict=True)
        ]
        return Batch(stacked.tensor, sizes)

    def group_by_size(self, batched_inputs: list[dict]) -> dict[tuple[int, int], list[int]]:
        """Group images by input size, so that none is padded to the size of another: (height, width) -> indices."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, inputs in enumerate(batched_inputs):
            size = self.fixed_size or tuple(_round_up(side, self.divisibility) for side in inputs["image"].shape[1:])
            groups.setdefault(size, []).append(i)
        return groups

    def rescale(self, images: Tensor) -> Tensor:
        """Resize a training batch to a square whose side is drawn from the scales."""
        if not self.multi_scale:
            return images
        side = self.multi_scale[int(torch.randint(len(self.multi_scale), ()))]
        if images.shape[2:] == (side, side):
            return images
        return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)

    def targets(self, batched_inputs: list[dict], sizes: list[ImageSize]) -> list[Target]:
        """Make the targets, relative to the network's input.

        Raises:
            ValueError: the masks of an image are not BitMasks.
        """
        return [
            self._target(inputs["instances"], size) for inputs, size in zip(batched_inputs, sizes, strict=True)
        ]

    def _fit(self, image: Tensor) -> Tensor:
        if not self.fixed_size or tuple(image.shape[1:]) == self.fixed_size:
            return image
        return resize_like_pil(image, self.fixed_size)

    def _target(self, instances: Instances, size: ImageSize) -> Target:
        height, width = instances.image_size
        scale = torch.tensor([width, height, width, height], device=self.device)
        boxes = instances.gt_boxes.tensor.to(self.device) / scale
        share = torch.tensor([r / p for r, p in zip(size.resized[::-1], size.padded[::-1], strict=True)] * 2)
        masks = None
        if instances.has("gt_masks"):
            masks = _masks_on_canvas(_bit_masks(instances).to(self.device), size)
        elif len(instances) == 0:
            masks = torch.zeros(0, *size.padded, dtype=torch.bool, device=self.device)
        return Target(instances.gt_classes.to(self.device), xyxy_to_cxcywh(boxes * share.to(boxes)), masks)


def resize_like_pil(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image of values from 0 to 255, antialiased and bilinear, with the rounding of PIL.

    Args:
        image: (3, H, W), uint8 or integers in a float dtype.
        size: (height, width), pixels.

    Returns:
        (3, height, width), uint8.
    """
    image = image.to(torch.uint8)
    if image.device.type != "cpu":
        return resize_off_host(image, size)
    resized = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def resize_off_host(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Do what `resize_like_pil` does, on any device, with differences of at most 1.

    PIL rounds after the horizontal pass and after the vertical pass.
    """
    wide = F.interpolate(image[None].float(), size=(image.shape[1], size[1]), mode="bilinear", antialias=True)
    wide = wide.add(0.5).floor().clamp(0, 255)
    resized = F.interpolate(wide, size=size, mode="bilinear", antialias=True)[0]
    return resized.add(0.5).floor().clamp(0, 255).to(torch.uint8)


def _bit_masks(instances: Instances) -> Tensor:
    masks = instances.gt_masks
    if not isinstance(masks, BitMasks):
        raise ValueError(f"gt_masks must be BitMasks, got {type(masks).__name__}. Set INPUT.MASK_FORMAT to bitmask.")
    return masks.tensor


def _masks_on_canvas(masks: Tensor, size: ImageSize) -> Tensor:
    """Resize and pad masks (T, h, w) of an image to masks (T, H, W) of the network's input."""
    canvas = masks.new_zeros(len(masks), *size.padded)
    if len(masks) == 0:
        return canvas
    if masks.shape[1:] != size.resized:
        masks = F.interpolate(masks[None].to(torch.uint8), size=size.resized, mode="nearest")[0].bool()
    canvas[:, : masks.shape[1], : masks.shape[2]] = masks
    return canvas


def _output_size(inputs: dict) -> tuple[int, int]:
    height, width = inputs["image"].shape[1:]
    return int(inputs.get("height", height)), int(inputs.get("width", width))


def _are_sides(numbers: tuple) -> bool:
    return all(isinstance(number, int) and number > 0 for number in numbers)


def _round_up(side: int, divisibility: int) -> int:
    return -(-side // divisibility) * divisibility
