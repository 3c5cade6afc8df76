"""Common base of all models that predict, whatever runs them."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from detectron2.structures import Instances

from insta_rtdetr.errors import ImageError
from insta_rtdetr.views.tiling import Tiling, find_in_tiles

from .categories import Categories
from .inputs import Input, LoadedImage, check_options, find_inputs
from .result import Result
from .tracking import Tracker
from .video import DEFAULT_FPS

logger = logging.getLogger(__name__)


class Predictor:
    """Model that finds objects in images; a subclass implements `find`.

    Attributes:
        categories: names and COCO ids of the classes.
        masks_as_rle: whether the instances of its results hold `RleMasks`, which take little memory, instead of
            tensors.  Detectron2's own models and exported files give tensors all the same.
    """

    categories: Categories
    masks_as_rle = False

    def find(self, images: list[np.ndarray], threshold: float) -> list[Instances]:
        """Find the objects with at least this score.

        Args:
            images: uint8 (H, W, 3), RGB, of any sizes.
            threshold: lowest score of an object.

        Returns:
            one `Instances` on CPU for each image.
        """
        raise NotImplementedError

    def predict(
        self, source: Any, threshold: float = 0.5, batch_size: int = 1, tile: int = 0, overlap: float = 0.2
    ) -> Iterator[Result]:
        """Find the objects in images; results come one by one, so that only one batch is in memory.

        Args:
            source: path of an image, a video or a folder of images; a pattern such as "photos/*.jpg"; an address
                (http, https); a PIL image; an array (H, W, 3), uint8, channels in the order RGB; or a list of these.
            threshold: lowest score of an object, a probability.
            batch_size: number of images, or of tiles, that the network gets at a time.
            tile: side in pixels of the tiles that each image is cut into, so that small objects of a large image are
                found; 0 for none.  Masks then stay in run-length code, see `RleMasks`.
            overlap: least overlap of neighbouring tiles, as a fraction of a tile's side.

        Returns:
            one result for each image, in order, and for each frame of a video.  Of several images, those that
            cannot be read are left out: each is named in a warning, and a last warning gives their number.

        Raises:
            UserError: an argument is wrong, or the only image cannot be read.
        """
        check_options(threshold, batch_size)
        tiling = Tiling(tile, overlap) if tile else None
        # This method is no generator, so that a wrong argument raises here and not at the first result.
        images = _readable(find_inputs(source), by_crops=tiling is not None)
        return self._predict_tiled(images, threshold, batch_size, tiling) if tiling else self._predict(
            images, threshold, batch_size
        )

    def track(self, source: Any, threshold: float = 0.5, tile: int = 0, overlap: float = 0.2) -> Iterator[Result]:
        """Find the objects in the frames of videos, and give each the same number in all frames.

        An object gets its number in the second frame that shows it.  Results have the numbers as `track_ids`, and no
        objects without one.

        Args:
            source: what `predict` takes; several images are the frames of one video, in their order.
            threshold: lowest score of an object that is given a number; it keeps it when its score is lower.
            tile: see `predict`.
            overlap: see `predict`.

        Returns:
            one result for each frame.

        Raises:
            UserError: an argument is wrong, or the package trackers is not installed.
        """
        check_options(threshold, batch_size=1)
        tiling = Tiling(tile, overlap) if tile else None
        images = _readable(find_inputs(source), by_crops=tiling is not None)
        return self._track(images, threshold, tiling, Tracker(threshold, DEFAULT_FPS))

    def _track(
        self, images: Iterator[LoadedImage], threshold: float, tiling: Tiling | None, tracker: Tracker
    ) -> Iterator[Result]:
        video = None
        for loaded in images:
            if loaded.frame is not None and loaded.name != video:
                video, tracker = loaded.name, Tracker(threshold, loaded.fps)
            if tiling:
                yield tracker.update(self.predict_tiled(loaded, tracker.lowest_score, 1, tiling))
            else:
                yield tracker.update(*self.predict_batch([loaded], tracker.lowest_score))

    def _predict(self, images: Iterator[LoadedImage], threshold: float, batch_size: int) -> Iterator[Result]:
        while batch := list(itertools.islice(images, batch_size)):
            yield from self.predict_batch(batch, threshold)

    def _predict_tiled(
        self, images: Iterator[LoadedImage], threshold: float, batch_size: int, tiling: Tiling
    ) -> Iterator[Result]:
        for loaded in images:
            yield self.predict_tiled(loaded, threshold, batch_size, tiling)

    def predict_batch(self, images: list[LoadedImage], threshold: float) -> list[Result]:
        """Find the objects in images that have been read; the result of an image does not depend on the others."""
        found = self.find([loaded.image for loaded in images], threshold)
        return [
            Result(loaded.image, instances, self.categories, loaded.name, loaded.frame)
            for loaded, instances in zip(images, found)
        ]

    def predict_tiled(self, loaded: LoadedImage, threshold: float, batch_size: int, tiling: Tiling) -> Result:
        """Find the objects in the tiles of an image that has been opened, `batch_size` tiles at a time."""

        def find(tiles: list[np.ndarray]) -> list[Instances]:
            return self.find(tiles, threshold)

        masks_as_rle, self.masks_as_rle = self.masks_as_rle, True
        try:
            instances = find_in_tiles(find, loaded.image, tiling, batch_size)
        finally:
            self.masks_as_rle = masks_as_rle
        return Result(loaded.image, instances, self.categories, loaded.name, loaded.frame)


def _readable(inputs: list[Input], by_crops: bool) -> Iterator[LoadedImage]:
    num_unreadable = 0
    for one in inputs:
        try:
            yield from one.read(by_crops=by_crops)
        except ImageError as error:
            if len(inputs) == 1:
                raise
            num_unreadable += 1
            logger.warning("%s; it is left out", error)
    if num_unreadable:
        logger.warning("%d of %d inputs could not be read and were left out", num_unreadable, len(inputs))
