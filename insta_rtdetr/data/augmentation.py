"""Random colours and random views of training images.

All randomness comes from torch's and numpy's global generators, which Detectron2 seeds in each process of the loader.
"""

import dataclasses

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from .view import View

# Images with a smaller side, in pixels, are not cropped: torchvision's crop could be empty.
MIN_SIDE_TO_CROP = 4


def photometric_distort(image: np.ndarray, prob: float) -> np.ndarray:
    """Change brightness, contrast, saturation, hue and channel order, each with probability `prob`, as SSD does.

    Args:
        image: uint8 (H, W, 3), RGB; it is not changed.
        prob: probability of each change.

    Returns:
        the changed image, of the same shape and type.
    """
    if prob <= 0:
        return image
    # Pillow's operations on bytes are several times faster than those on tensors.
    return np.asarray(v2.RandomPhotometricDistort(p=prob)(Image.fromarray(image)))


def zoom_out(view: View, max_scale: float) -> View:
    """Place the view's window somewhere on a canvas of up to `max_scale` times its sides."""
    window = _empty_boxes(view.height, view.width)
    padding = v2.RandomZoomOut(side_range=(1.0, max_scale)).make_params([window])["padding"]
    left, top, right, bottom = padding
    return dataclasses.replace(
        view,
        left=view.left - left,
        top=view.top - top,
        width=view.width + left + right,
        height=view.height + top + bottom,
    )


def iou_crop(view: View, boxes_xyxy: np.ndarray) -> tuple[View, np.ndarray]:
    """Crop the view's window so that it overlaps an object by a random IoU, or leave it unchanged, as SSD does.

    Args:
        view: the view to crop.
        boxes_xyxy: (T, 4), in pixels of the image.

    Returns:
        the view, and a bool (T,) array that is True for the objects to keep, whose centres lie in the window.
    """
    everything = np.ones(len(boxes_xyxy), dtype=bool)
    if len(boxes_xyxy) == 0 or min(view.width, view.height) < MIN_SIDE_TO_CROP:
        return view, everything
    in_window = boxes_xyxy - np.array([view.left, view.top] * 2)
    boxes = tv_tensors.BoundingBoxes(
        torch.as_tensor(in_window, dtype=torch.float32), format="XYXY", canvas_size=(view.height, view.width)
    )
    crop = v2.RandomIoUCrop().make_params([boxes])
    if not crop:
        return view, everything
    cropped = dataclasses.replace(
        view, left=view.left + crop["left"], top=view.top + crop["top"], width=crop["width"], height=crop["height"]
    )
    return cropped, crop["is_within_crop_area"].numpy()


def scale_jitter(view: View, scale_range: tuple[float, float], out_hw: tuple[int, int]) -> View:
    """Scale the window so that it fits into the output, and then by a random factor (large-scale jitter).

    What is too large is cropped at a random place; what is too small gets a border at the right and below.

    Args:
        view: the view to scale.
        scale_range: range of the factor; Simple Copy-Paste and LSJ baselines use 0.1 to 2.
        out_hw: (height, width) of the output; only their ratio matters.

    Source: https://arxiv.org/abs/2012.07177, as Detectron2's ResizeScale and FixedSizeCrop do it.
    """
    low, high = scale_range
    scale = float(torch.empty(()).uniform_(low, high)) * min(out_hw[0] / view.height, out_hw[1] / view.width)
    height, width = (max(1, round(side / scale)) for side in out_hw)
    top = int(torch.randint(max(view.height - height, 0) + 1, ()))
    left = int(torch.randint(max(view.width - width, 0) + 1, ()))
    return dataclasses.replace(view, left=view.left + left, top=view.top + top, width=width, height=height)


def _empty_boxes(height: int, width: int) -> tv_tensors.BoundingBoxes:
    """Make a set of no boxes, which tells torchvision an image's size without the image."""
    return tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(height, width))


class RandomView:
    """Sampler of random views of training images.

    The steps are, in this order: zoom-out, IoU crop, Detectron2's random crop, large-scale jitter, flip, resize.
    """

    @configurable
    def __init__(
        self, *, zoom_out_prob: float = 0.0, zoom_out_max_scale: float = 4.0, iou_crop_prob: float = 0.0,
        crop: T.RandomCrop | None = None, crop_prob: float = 1.0, crop_resize: T.ResizeShortestEdge | None = None,
        jitter_scales: tuple[float, float] | tuple[()] = (),
        flip: str = "none", fixed_size: tuple[int, int] | tuple[()] = (), resize: T.ResizeShortestEdge | None = None,
        fill_level: int = 0,
    ):  # fmt: skip
        """Set up the sampler.

        Args:
            zoom_out_prob: probability of the zoom-out.
            zoom_out_max_scale: largest side of the zoom-out's canvas, as a factor of the image's side.
            iou_crop_prob: probability of the IoU crop.
            crop: Detectron2's random crop, or None.
            crop_prob: probability of `crop`.
            crop_resize: resize before `crop`, whose size in pixels refers to the resized image; None for no resize.
            jitter_scales: range of the large-scale jitter's factor; empty for none.
            flip: "horizontal", "vertical", "both" (each of the two by itself) with probability 0.5, or "none".
            fixed_size: (height, width) of every output in pixels; empty for `resize`.
            resize: Detectron2's resize that keeps the shape; None for no resize.
            fill_level: grey level around images that do not fill their canvas, 0 to 255.

        Raises:
            ValueError: flip is none of the four, the canvas would be smaller than the image, or the factors are no
                range of positive numbers.
        """
        if flip not in ("horizontal", "vertical", "both", "none"):
            raise ValueError(f"INPUT.RANDOM_FLIP must be horizontal, vertical, both or none, got {flip!r}.")
        if zoom_out_max_scale < 1:
            raise ValueError(f"INPUT.ZOOM_OUT_MAX_SCALE must be at least 1, got {zoom_out_max_scale}.")
        if not 0 <= fill_level <= 255:
            raise ValueError(f"INPUT.FILL_LEVEL must be from 0 to 255, got {fill_level}.")
        if jitter_scales and not (len(jitter_scales) == 2 and 0 < jitter_scales[0] <= jitter_scales[1]):
            raise ValueError(f"INPUT.SCALE_JITTER must be (smallest, largest) or empty, got {jitter_scales}.")
        self.zoom_out_prob, self.zoom_out_max_scale = zoom_out_prob, zoom_out_max_scale
        self.iou_crop_prob = iou_crop_prob
        self.crop, self.crop_prob, self.crop_resize, self.flip = crop, crop_prob, crop_resize, flip
        self.jitter_scales = tuple(jitter_scales)
        self.fixed_size, self.resize, self.fill_level = tuple(fixed_size), resize, fill_level

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read INPUT.*.

        Raises:
            ValueError: INPUT.TRAIN_SIZE is no size.
        """
        inputs = cfg.INPUT
        train_size = inputs.TRAIN_SIZE
        if train_size and (len(train_size) != 2 or not all(isinstance(side, int) and side > 0 for side in train_size)):
            raise ValueError(f"INPUT.TRAIN_SIZE must be (height, width) in pixels or empty, got {tuple(train_size)}.")
        return {
            "zoom_out_prob": inputs.ZOOM_OUT_PROB,
            "zoom_out_max_scale": inputs.ZOOM_OUT_MAX_SCALE,
            "iou_crop_prob": inputs.IOU_CROP_PROB,
            "crop": T.RandomCrop(inputs.CROP.TYPE, inputs.CROP.SIZE) if inputs.CROP.ENABLED else None,
            "crop_prob": inputs.CROP.PROB,
            "crop_resize": (
                T.ResizeShortestEdge(inputs.CROP.RESIZE_SHORTEST_EDGE, sample_style="choice")
                if inputs.CROP.RESIZE_SHORTEST_EDGE
                else None
            ),
            "jitter_scales": inputs.SCALE_JITTER,
            "flip": inputs.RANDOM_FLIP,
            "fixed_size": train_size or inputs.FIXED_SIZE,
            "fill_level": inputs.FILL_LEVEL,
            "resize": T.ResizeShortestEdge(
                inputs.MIN_SIZE_TRAIN, inputs.MAX_SIZE_TRAIN, inputs.MIN_SIZE_TRAIN_SAMPLING
            ),
        }

    def __call__(self, height: int, width: int, boxes_xyxy: np.ndarray, is_strong: bool) -> tuple[View, np.ndarray]:
        """Draw a view.

        Args:
            height, width: size of the image in pixels.
            boxes_xyxy: (T, 4), in pixels of the image.
            is_strong: whether zoom-out, crops and jitter are on.

        Returns:
            the view, and a bool (T,) array, True for the objects to keep (their boxes may still lie outside).
        """
        view, kept = View.identity(height, width), np.ones(len(boxes_xyxy), dtype=bool)
        if is_strong:
            if _happens(self.zoom_out_prob):
                view = zoom_out(view, self.zoom_out_max_scale)
            if _happens(self.iou_crop_prob):
                view, kept = iou_crop(view, boxes_xyxy)
            if self.crop is not None and _happens(self.crop_prob):
                view = self._crop(view)
            if self.jitter_scales:
                view = scale_jitter(view, self.jitter_scales, self.fixed_size or (view.height, view.width))
        flip_x = self.flip in ("horizontal", "both") and _happens(0.5)
        flip_y = self.flip in ("vertical", "both") and _happens(0.5)
        return self._resize(dataclasses.replace(view, flip_x=flip_x, flip_y=flip_y)), kept

    def _crop(self, view: View) -> View:
        height, width = _resized(view, self.crop_resize)
        crop = self.crop.get_transform(_blank(height, width))
        # The crop is drawn in pixels of the resized image, but the window is measured in pixels of the image.
        left, right = (round(x * view.width / width) for x in (crop.x0, crop.x0 + crop.w))
        top, bottom = (round(y * view.height / height) for y in (crop.y0, crop.y0 + crop.h))
        return dataclasses.replace(
            view, left=view.left + left, top=view.top + top, width=max(right - left, 1), height=max(bottom - top, 1)
        )

    def _resize(self, view: View) -> View:
        out_height, out_width = self.fixed_size or _resized(view, self.resize)
        return dataclasses.replace(view, out_height=out_height, out_width=out_width, fill_level=self.fill_level)


def _resized(view: View, resize: T.ResizeShortestEdge | None) -> tuple[int, int]:
    """Return (height, width) of the view's window after Detectron2's resize."""
    if resize is not None:
        transform = resize.get_transform(_blank(view.height, view.width))
        if isinstance(transform, T.ResizeTransform):  # Otherwise the short side is 0, which means no resize.
            return transform.new_h, transform.new_w
    return view.height, view.width


def _happens(prob: float) -> bool:
    return float(torch.rand(())) < prob


def _blank(height: int, width: int) -> np.ndarray:
    """Make an image that takes no memory, for Detectron2's augmentations that only read the shape."""
    return np.broadcast_to(np.uint8(0), (height, width, 3))
