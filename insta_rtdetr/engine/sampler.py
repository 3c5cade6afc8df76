"""Sampler of the training images."""

import itertools
from collections.abc import Iterator

from detectron2.data.samplers import TrainingSampler


class ResumableSampler(TrainingSampler):
    """Detectron2's endless shuffling sampler, which in a resumed run continues with the images not seen yet.

    Attributes:
        num_seen: number of images that are skipped at the start, in all processes together.
    """

    num_seen = 0

    def __iter__(self) -> Iterator[int]:
        yield from itertools.islice(self._infinite_indices(), self._rank + self.num_seen, None, self._world_size)
