"""Common base of all models that predict, whatever runs them."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from detectron2.structures import Instances

from insta_rtdetr.errors import ImageError

from .categories import Categories
from .inputs import Input, LoadedImage, check_options, find_inputs
from .result import Result

logger = logging.getLogger(__name__)


class Predictor:
    """Model that finds objects in images; a subclass implements `find`.

    Attributes:
        categories: names and COCO ids of the classes.
    """

    categories: Categories

    def find(self, images: list[np.ndarray], threshold: float) -> list[Instances]:
        """Find the objects with at least this score.

        Args:
            images: uint8 (H, W, 3), RGB, of any sizes.
            threshold: lowest score of an object.

        Returns:
            one `Instances` on CPU for each image.
        """
        raise NotImplementedError

    def predict(self, source: Any, threshold: float = 0.5, batch_size: int = 1) -> Iterator[Result]:
        """Find the objects in images; results come one by one, so that only one batch is in memory.

        Args:
            source: path of an image, a video or a folder of images; a pattern such as "photos/*.jpg"; an address
                (http, https); a PIL image; an array (H, W, 3), uint8, channels in the order RGB; or a list of these.
            threshold: lowest score of an object, a probability.
            batch_size: number of images that the network gets at a time.

        Returns:
            one result for each image, in order, and for each frame of a video.  Of several images, those that
            cannot be read are left out: each is named in a warning, and a last warning gives their number.

        Raises:
            UserError: an argument is wrong, or the only image cannot be read.
        """
        check_options(threshold, batch_size)
        # This method is no generator, so that a wrong argument raises here and not at the first result.
        return self._predict(_readable(find_inputs(source)), threshold, batch_size)

    def _predict(self, images: Iterator[LoadedImage], threshold: float, batch_size: int) -> Iterator[Result]:
        while batch := list(itertools.islice(images, batch_size)):
            yield from self.predict_batch(batch, threshold)

    def predict_batch(self, images: list[LoadedImage], threshold: float) -> list[Result]:
        """Find the objects in images that have been read; the result of an image does not depend on the others."""
        found = self.find([loaded.image for loaded in images], threshold)
        return [
            Result(loaded.image, instances, self.categories, loaded.name, loaded.frame)
            for loaded, instances in zip(images, found)
        ]


def _readable(inputs: list[Input]) -> Iterator[LoadedImage]:
    num_unreadable = 0
    for one in inputs:
        try:
            yield from one.read()
        except ImageError as error:
            if len(inputs) == 1:
                raise
            num_unreadable += 1
            logger.warning("%s; it is left out", error)
    if num_unreadable:
        logger.warning("%d of %d inputs could not be read and were left out", num_unreadable, len(inputs))
