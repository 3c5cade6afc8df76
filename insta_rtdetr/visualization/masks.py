"""Masks as tinted areas with contours, without steps at their edges."""

from dataclasses import dataclass

import cv2
import numpy as np
from contourpy import contour_generator

from .colors import Color

OPACITY = 0.42
SMOOTHING = 1.5  # standard deviation of the blur that contours follow between two pixels, in pixels of the mask
PADDING = 2  # pixels of background around a mask, so that its contour is closed
SHIFT = 4  # OpenCV takes coordinates as integers of 1/16 pixel


@dataclass(frozen=True)
class MaskCrop:
    """A mask's smallest part of the image that holds all its pixels.

    Attributes:
        x, y: the image's column and row where it begins.
        mask: (height, width), bool.
    """

    x: int
    y: int
    mask: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> "MaskCrop":
        """Crop a mask (H, W), bool, of the whole image."""
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        return cls(x, y, mask[y : y + height, x : x + width])


def paint(image_rgb: np.ndarray, crop: MaskCrop, color: Color, scale: float = 1.0) -> None:
    """Tint what a mask covers and draw its contour, in place.

    Args:
        image_rgb: uint8 (H * scale, W * scale, 3).
        crop: the mask, in pixels of the image before it was enlarged.
        color: colour of the contour.
        scale: factor by which the image was enlarged.
    """
    if not crop.mask.any():
        return
    width = line_width(image_rgb)
    contours = [((points + (crop.x, crop.y)) * scale - 0.5).astype(np.float32) for points in find_contours(crop.mask)]
    low = np.maximum(np.floor(np.min([c.min(axis=0) for c in contours], axis=0)).astype(int) - width - 1, 0)
    high = np.ceil(np.max([c.max(axis=0) for c in contours], axis=0)).astype(int) + width + 2
    area = image_rgb[low[1] : high[1], low[0] : high[0]]
    polygons = [np.round((points - low) * 2**SHIFT).astype(np.int32) for points in contours]
    fill, line = np.zeros(area.shape[:2], dtype=np.uint8), np.zeros(area.shape[:2], dtype=np.uint8)
    cv2.fillPoly(fill, polygons, 255, cv2.LINE_AA, SHIFT)
    cv2.polylines(line, polygons, True, 255, width, cv2.LINE_AA, SHIFT)
    share = np.maximum(fill * np.float32(OPACITY / 255), line * np.float32(1 / 255))[:, :, None]
    area[:] = np.round(area * (1 - share) + np.array(color, dtype=np.float32) * share)


def find_contours(mask: np.ndarray) -> list[np.ndarray]:
    """Return the contours of a mask, those of its holes too: each (P, 2), x and y in pixels from the mask's corner.

    They run between the centres of the mask's pixels and of those around it; where exactly, a blurred mask decides,
    so that edges that are not upright have no steps.
    """
    padded = np.pad(mask, PADDING).astype(np.float32)
    smooth = 0.5 * padded + 0.5 * cv2.GaussianBlur(padded, (0, 0), SMOOTHING)
    return [points + 0.5 - PADDING for points in contour_generator(z=smooth).lines(0.5)]


def line_width(image_rgb: np.ndarray) -> int:
    """Return the width of contours and boxes in pixels: 1 up to about 500 pixels a side, 2 up to 1,000 and so on."""
    height, width = image_rgb.shape[:2]
    return max(1, round((height * width) ** 0.5 / 500))
