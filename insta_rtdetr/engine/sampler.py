"""The order of the training images."""

import itertools
from collections.abc import Iterator

from detectron2.data.samplers import TrainingSampler


class ResumableSampler(TrainingSampler):
    """Detectron2's endless shuffling, but a resumed run goes on with the images that it has not seen yet.

    Attributes:
        num_seen: images, of all processes together, that come before the first one given.
    """

    num_seen = 0

    def __iter__(self) -> Iterator[int]:
        yield from itertools.islice(self._infinite_indices(), self._rank + self.num_seen, None, self._world_size)
