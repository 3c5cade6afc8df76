"""Prediction for all requests with one model.

A thread of its own handles the requests one after another, so that the server can answer others meanwhile.
"""

import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from fastapi import HTTPException, Request
from PIL import Image

from insta_rtdetr.predict import Model
from insta_rtdetr.predict.inputs import LoadedImage
from insta_rtdetr.views.tiling import Tiling
from insta_rtdetr.views.viewed import Views

from .limits import Limits, decode_upload, read_upload

JPEG_QUALITY = 92
# An image whose longer side has more pixels than this many tiles is cut into tiles unless the request says otherwise.
LARGE_IMAGE_TILES = 4


@dataclass(frozen=True)
class Options:
    """Options of a request.

    Attributes:
        threshold: lowest score of an object, from 0 to 1.
        name: name of the image, which the answer repeats.
        has_image: whether the answer contains the image as the model saw it.
        in_tiles: whether the image is cut into tiles; None: if it is large.
    """

    threshold: float
    name: str
    has_image: bool
    in_tiles: bool | None = None


class Predictor:
    """Predictor that answers requests with the objects that a model finds."""

    def __init__(self, model: Model, limits: Limits, tile: int) -> None:
        """Start the thread.

        Args:
            model: the model that finds the objects.
            limits: limits of uploads.
            tile: side of the tiles that large images are cut into, in pixels.
        """
        self.model, self.limits, self._tiling = model, limits, Tiling(tile)
        self.model.masks_as_rle = True
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictor")
        self._num_requests = 0

    def close(self) -> None:
        """Stop the thread after its current request."""
        self._thread.shutdown(cancel_futures=True)

    async def answer(self, request: Request, options: Options) -> bytes:
        """Return the JSON of `schemas.Found` for the image that is the body of a request.

        Raises:
            HTTPException: the image is refused, or there are too many requests.
        """
        with self._place():
            content = await read_upload(request, self.limits)
            arrived = time.perf_counter()
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._predict, content, options, arrived
            )

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._num_requests >= self.limits.max_requests:
            raise HTTPException(503, "Too many images at once.  Try again in a moment.", {"Retry-After": "5"})
        self._num_requests += 1
        try:
            yield
        finally:
            self._num_requests -= 1

    def _predict(self, content: bytes, options: Options, arrived: float) -> bytes:
        times = [arrived, time.perf_counter()]
        image = decode_upload(content, self.limits)
        times.append(time.perf_counter())
        in_tiles = self._is_large(image) if options.in_tiles is None else options.in_tiles
        loaded = LoadedImage(image, options.name)
        views = Views(self._tiling if in_tiles else None)
        (result,) = self.model.predict_batch([loaded], options.threshold, views)
        times.append(time.perf_counter())
        found = {**result.to_coco_file(), "in_tiles": in_tiles}
        shown = {"image": _data_url(image)} if options.has_image else {}
        times.append(time.perf_counter())
        stages = zip(("wait", "read", "predict", "encode"), np.diff(times).tolist())
        timing = {stage: round(seconds, 4) for stage, seconds in stages}
        return json.dumps({**found, **shown, "timing": timing}).encode()

    def _is_large(self, image: np.ndarray) -> bool:
        return max(image.shape[:2]) > LARGE_IMAGE_TILES * self._tiling.size


def _data_url(image_rgb: np.ndarray) -> str:
    """Encode the image as a JPEG data URL.

    It is part of the answer, so that a browser shows exactly what the model saw.
    """
    jpeg = io.BytesIO()
    Image.fromarray(image_rgb).save(jpeg, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode("ascii")
