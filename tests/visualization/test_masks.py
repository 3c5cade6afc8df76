"""What is painted is the mask."""

import numpy as np
import pytest

from insta_rtdetr.visualization.masks import MaskCrop, find_contours, paint

RED = (255, 0, 0)


def disc(size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return x**2 + y**2 <= radius**2


def polygon_area(points: np.ndarray) -> float:
    """The shoelace formula."""
    x, y = points.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def test_the_contour_of_a_disc_is_a_circle_without_steps():
    (points,) = find_contours(disc(60, 20))
    distances = np.hypot(*(points - 30).T)
    # A contour along the pixels' edges is between 19.1 and 20.6 from the middle.
    assert np.ptp(distances) < 0.8 and abs(distances.mean() - 20) < 0.3
    assert abs(polygon_area(points) / disc(60, 20).sum() - 1) < 0.02


def test_holes_and_parts_have_contours_of_their_own():
    mask = disc(40, 15) & ~disc(40, 6)
    mask[0, 0] = True
    areas = sorted(polygon_area(points) for points in find_contours(mask))
    assert len(areas) == 3 and areas[1:] == pytest.approx([113, 707], abs=12)


@pytest.mark.parametrize("scale", [1, 2.5])
def test_the_tint_covers_the_mask_and_nothing_else(scale):
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 35:60] = True  # It touches the right border.
    image = np.zeros((round(40 * scale), round(60 * scale), 3), dtype=np.uint8)
    paint(image, MaskCrop.of(mask), RED, scale)
    y, x = np.indices(image.shape[:2]) + 0.5
    # Into the mask, from its edges.
    distance = np.min([y - 10 * scale, 30 * scale - y, x - 35 * scale, 60 * scale - x], axis=0)
    assert (image[distance > 2, 0] == 107).all()  # 0.42 of red
    assert (image[distance < -2] == 0).all() and (image[:, :, 1:] == 0).all()
    edge = image[:, : round(58 * scale), 0][np.abs(distance[:, : round(58 * scale)]) < 0.6]
    assert edge.mean() > 150


def test_an_empty_mask_and_one_of_a_pixel_are_painted():
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    mask = np.zeros((20, 20), dtype=bool)
    paint(image, MaskCrop.of(mask), RED)
    assert (image == 0).all()
    mask[19, 3] = True
    paint(image, MaskCrop.of(mask), RED)
    assert image[18:, 2:5, 0].max() > 50 and (image[:17] == 0).all()
