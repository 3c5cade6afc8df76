"""Common base of all models that predict, whatever runs them."""

import functools
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.structures import Instances

from insta_rtdetr.errors import ImageError
from insta_rtdetr.views.augmentation import Augmentation, find_in_views
from insta_rtdetr.views.tiling import Tiling, find_in_tiles
from insta_rtdetr.views.viewed import Views

from .categories import Categories
from .inputs import Input, LoadedImage, check_options, find_inputs
from .result import Result
from .tracking import Tracker
from .video import DEFAULT_FPS

logger = logging.getLogger(__name__)

# Lowest score of an object in one of several views; lower ones count as 0 in the mean.
LOWEST_SCORE = 0.05
WHOLE = Views()


class Predictor:
    """Model that finds objects in images; a subclass implements `find`.

    Attributes:
        categories: names and COCO ids of the classes.
        masks_as_rle: whether the instances of its results hold `RleMasks`, which take little memory, instead of
            tensors.  Detectron2's own models and exported files give tensors all the same.
    """

    categories: Categories
    masks_as_rle = False

    @property
    def augmentation(self) -> Augmentation:
        """Return the views that `predict(augment=True)` makes of an image.

        Raises:
            UserError: there is only one.
        """
        raise NotImplementedError

    def find(self, images: list[np.ndarray], threshold: float, short_side: int = 0) -> list[Instances]:
        """Find the objects with at least this score.

        Args:
            images: uint8 (H, W, 3), RGB, of any sizes.
            threshold: lowest score of an object.
            short_side: short side of the network's input in pixels; 0 for the model's usual one.

        Returns:
            one `Instances` on CPU for each image.
        """
        raise NotImplementedError

    def find_augmented(
        self, images: list[np.ndarray], threshold: float, augmentation: Augmentation
    ) -> list[Instances]:
        """Do what `find` does, in several views of each image; the objects have `RleMasks`."""

        def find(images: list[np.ndarray], short_side: int) -> list[Instances]:
            # An object may have a lower score in one view than in all together.
            return self.find(images, min(threshold, LOWEST_SCORE), short_side)

        with self._rle_masks():
            return [above(found, threshold) for found in find_in_views(find, images, augmentation)]

    def predict(
        self, source: Any, threshold: float = 0.5, batch_size: int = 1, tile: int = 0, overlap: float = 0.2,
        augment: bool = False,
    ) -> Iterator[Result]:  # fmt: skip
        """Find the objects in images; results come one by one, so that only one batch is in memory.

        Args:
            source: path of an image, a video or a folder of images; a pattern such as "photos/*.jpg"; an address
                (http, https); a PIL image; an array (H, W, 3), uint8, channels in the order RGB; or a list of these.
            threshold: lowest score of an object, a probability.
            batch_size: number of images, or of tiles, that the network gets at a time.
            tile: side in pixels of the tiles that each image is cut into, so that small objects of a large image are
                found; 0 for none.  Masks then stay in run-length code, see `RleMasks`.
            overlap: least overlap of neighbouring tiles, as a fraction of a tile's side.
            augment: whether each image, or each tile, is also seen mirrored and in other sizes, as TEST.AUG says, and
                the views are merged.  Masks then stay in run-length code.

        Returns:
            one result for each image, in order, and for each frame of a video.  Of several images, those that
            cannot be read are left out: each is named in a warning, and a last warning gives their number.

        Raises:
            UserError: an argument is wrong, or the only image cannot be read.
        """
        # This method is no generator, so that a wrong argument raises here and not at the first result.
        check_options(threshold, batch_size)
        views = self._views(tile, overlap, augment)
        images = _readable(find_inputs(source), by_crops=views.tiling is not None)
        return self._predict(images, threshold, batch_size, views)

    def _views(self, tile: int, overlap: float, augment: bool) -> Views:
        return Views(Tiling(tile, overlap) if tile else None, self.augmentation if augment else None)

    def track(
        self, source: Any, threshold: float = 0.5, tile: int = 0, overlap: float = 0.2, augment: bool = False
    ) -> Iterator[Result]:
        """Find the objects in the frames of videos, and give each the same number in all frames.

        An object gets its number in the second frame that shows it.  Results have the numbers as `track_ids`, and no
        objects without one.

        Args:
            source: what `predict` takes; several images are the frames of one video, in their order.
            threshold: lowest score of an object that is given a number; it keeps it when its score is lower.
            tile: see `predict`.
            overlap: see `predict`.
            augment: see `predict`.

        Returns:
            one result for each frame.

        Raises:
            UserError: an argument is wrong, or the package trackers is not installed.
        """
        check_options(threshold, batch_size=1)
        views = self._views(tile, overlap, augment)
        images = _readable(find_inputs(source), by_crops=views.tiling is not None)
        return self._track(images, threshold, views, Tracker(threshold, DEFAULT_FPS))

    def _track(
        self, images: Iterator[LoadedImage], threshold: float, views: Views, tracker: Tracker
    ) -> Iterator[Result]:
        video = None
        for loaded in images:
            if loaded.frame is not None and loaded.name != video:
                video, tracker = loaded.name, Tracker(threshold, loaded.fps)
            yield tracker.update(*self.predict_batch([loaded], tracker.lowest_score, views))

    def _predict(
        self, images: Iterator[LoadedImage], threshold: float, batch_size: int, views: Views
    ) -> Iterator[Result]:
        # In tiles, images go through the network one by one.
        while batch := list(itertools.islice(images, 1 if views.tiling else batch_size)):
            yield from self.predict_batch(batch, threshold, views, batch_size)

    def predict_batch(
        self, images: list[LoadedImage], threshold: float, views: Views = WHOLE, batch_size: int = 1
    ) -> list[Result]:
        """Find the objects in images that have been read; the result of an image does not depend on the others.

        Args:
            images: the images.
            threshold: lowest score of an object.
            views: how the images are seen.
            batch_size: number of tiles that the network gets at a time.
        """
        find = functools.partial(self.find, threshold=threshold)
        if views.augmentation:
            find = functools.partial(self.find_augmented, threshold=threshold, augmentation=views.augmentation)
        pixels = [loaded.image for loaded in images]
        if views.tiling:
            with self._rle_masks():
                found = [find_in_tiles(find, image, views.tiling, batch_size) for image in pixels]
        else:
            found = find(pixels)
        return [
            Result(loaded.image, instances, self.categories, loaded.name, loaded.frame)
            for loaded, instances in zip(images, found)
        ]

    @contextmanager
    def _rle_masks(self) -> Iterator[None]:
        """Make `find` give `RleMasks` in a `with` block."""
        masks_as_rle, self.masks_as_rle = self.masks_as_rle, True
        try:
            yield
        finally:
            self.masks_as_rle = masks_as_rle


def above(instances: Instances, threshold: float) -> Instances:
    """Return the objects with at least this score."""
    is_kept = instances.scores >= threshold
    # Indexing copies the masks, and those of a large image may not fit into the memory twice.
    return instances if is_kept.all() else instances[is_kept]


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
