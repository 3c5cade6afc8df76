"""Large image files that are read crop by crop, with rasterio (GDAL), which is an optional dependency."""

import importlib.util
import warnings
from typing import Any

import numpy as np
from PIL import Image

from insta_rtdetr.errors import ImageError
from insta_rtdetr.image_file import UNREADABLE, exif_orientation, reason_unreadable
from insta_rtdetr.visualization import read_image

# Formats that are read by crops, by Pillow's name, with GDAL's.  GDAL would open files of others that name more files.
DRIVERS = {"TIFF": "GTiff", "PNG": "PNG", "JPEG": "JPEG"}
# Bands of a file that are red, green and blue, by Pillow's mode.  Files of other modes are read whole.
BANDS = {"L": (1, 1, 1), "LA": (1, 1, 1), "RGB": (1, 2, 3), "RGBA": (1, 2, 3)}
# Number of pixels from which a file is read by crops; a smaller one is read whole, which is faster.
MIN_PIXELS = 2**22
# Number of rows that are read at a time when the whole image is asked for.
STRIP_ROWS = 256


class WindowedImage:
    """Image file of which only the crops that are asked for are read; in use it is an array, uint8 (H, W, 3), RGB.

    Rows are decoded in order from the top.  The rows of the last crops stay in memory, so that crops of one height,
    asked for row by row, decode the file once.

    Attributes:
        shape: (H, W, 3).
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, file: str, driver: str, bands: tuple[int, int, int]) -> None:
        """Open a file.

        Args:
            file: path of the file.
            driver: GDAL's name of its format.
            bands: numbers of its red, green and blue bands, from 1.

        Raises:
            ImageError: GDAL cannot read it.
        """
        import rasterio

        self.file, self._bands = file, bands
        with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED="NO"):
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:
                self._dataset = rasterio.open(file, driver=driver)
            except rasterio.errors.RasterioError as error:
                raise ImageError(f"{file} cannot be read: {reason_unreadable(error)}") from error
        self.shape = (self._dataset.height, self._dataset.width, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, crop: tuple[slice, slice]) -> np.ndarray:
        """Return the pixels of a crop, given as a slice of rows and a slice of columns without steps.

        Raises:
            ImageError: the file is damaged there.
        """
        import rasterio

        (top, bottom, _), (left, right, _) = (part.indices(side) for part, side in zip(crop, self.shape))
        needed = 2 * (bottom - top) * self.shape[1] * self._dataset.count
        try:
            with rasterio.Env(GDAL_CACHEMAX=max(needed, 2**24)):
                bands = self._dataset.read(sorted(set(self._bands)), window=((top, bottom), (left, right)))
        except rasterio.errors.RasterioError as error:
            raise ImageError(f"{self.file} cannot be read: {reason_unreadable(error)}") from error
        return np.ascontiguousarray(bands[np.array(self._bands) - 1].transpose(1, 2, 0))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the whole image, a few rows at a time, because GDAL takes several times their memory."""
        image = np.empty(self.shape, dtype or np.uint8)
        for top in range(0, len(self), STRIP_ROWS):
            image[top : top + STRIP_ROWS] = self[top : top + STRIP_ROWS, :]
        return image


def open_image(file: str) -> np.ndarray | WindowedImage:
    """Return an image that is to be cut into tiles: as a `WindowedImage` where that is possible, else its pixels.

    Raises:
        ImageError: it cannot be read.
    """
    windowed = _open_windowed(file) if importlib.util.find_spec("rasterio") else None
    return windowed if windowed is not None else read_image(file)


def _open_windowed(file: str) -> WindowedImage | None:
    """Open a file that can be read by crops; return None for others."""
    Image.init()
    try:
        with open(file, "rb") as handle:
            prefix = handle.read(16)
            handle.seek(0)
            for name in DRIVERS:
                # Image.open would refuse an image of this size, because it might not fit into the memory.
                make, accept = Image.OPEN[name]
                if accept(prefix):
                    bands = _bands_of(make(handle, file))
                    return WindowedImage(file, DRIVERS[name], bands) if bands else None
    except UNREADABLE:
        return None  # Reading it whole says why.
    return None


def _bands_of(header: Image.Image) -> tuple[int, int, int] | None:
    is_large = header.width * header.height >= MIN_PIXELS
    return BANDS.get(header.mode) if is_large and exif_orientation(header) == 1 else None
