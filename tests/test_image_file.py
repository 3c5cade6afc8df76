"""Images of unusual kinds are read as three channels of 8 bits."""

import numpy as np
import pytest
from PIL import Image

from insta_rtdetr.image_file import read_rgb


@pytest.mark.parametrize(
    ("pixels", "wanted"),
    [
        (np.array([[0, 255], [256, 65535]], dtype=np.uint16), [[0, 0], [1, 255]]),
        (np.array([[0.0, 0.5], [1.0, -1.0]], dtype=np.float32), [[0, 128], [255, 0]]),
        (np.array([[0.0, 0.6], [200.2, 300.0]], dtype=np.float32), [[0, 1], [200, 255]]),
        (np.array([[0.0, np.nan], [1.0, 0.2]], dtype=np.float32), [[0, 0], [255, 51]]),
    ],
)
def test_grey_of_16_bits_and_fractions(tmp_path, pixels, wanted):
    Image.fromarray(pixels).save(tmp_path / "grey.tif")
    image = read_rgb(tmp_path / "grey.tif")
    assert image.dtype == np.uint8 and image.tolist() == [[[value] * 3 for value in row] for row in wanted]
