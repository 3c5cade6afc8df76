"""Masks of the matched queries alone, which are computed a few at a time.

Shapes: N matched pairs, n of them at a time, B images, C channels, P points, (h, w) the mask map.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...layers.chunks import masks_at_a_time
from ...layers.point_sampling import UncertainPoints, sample_points
from ...layers.precision import full_precision
from ...layers.window import Window, windows_around
from ...structures import Match, Prediction
from .logits_at_points import Chunk, logits_at_points, maps_of

# Windows around objects are computed in place of whole maps if a mask has at most one point for this number of cells.
MIN_CELLS_PER_POINT = 16
# Smallest number of whole maps that are computed at a time, because the features are read once for all of them.
MIN_MAPS_AT_A_TIME = 64


@dataclass
class MatchedMasks:
    """The masks of matched queries that share mask features.

    A CPU computes a few of them at a time, so that they stay in its cache.  A GPU computes all of them at once, so that
    it need not wait until the number of masks of each image is known.

    Attributes:
        features: (B, C, h, w), mask features.
        embeddings: (N, C), mask embeddings.
        biases: (N,), or None.
        image: (N,), index of the image of each query.
        places: (N,), index of each query among all pairs, including those with other features.
    """

    features: Tensor
    embeddings: Tensor
    biases: Tensor | None
    image: Tensor
    places: Tensor

    @classmethod
    def join(cls, pairs: list[tuple[Prediction, Match]], places: Tensor | None = None) -> "MatchedMasks":
        """Collect the matched queries of predictions with the same features, one prediction after the other."""
        features = full_precision(pairs[0][0].mask_features)
        embeddings = torch.cat([p.mask_embeddings[match.image, match.query] for p, match in pairs])
        biases = [p.mask_biases[match.image, match.query] for p, match in pairs if p.mask_biases is not None]
        image = torch.cat([match.image for _, match in pairs])
        places = torch.arange(len(image), device=image.device) if places is None else places
        return cls(features, embeddings.to(features), torch.cat(biases).to(features) if biases else None, image, places)

    @property
    def size(self) -> tuple[int, int]:
        """Return the size (h, w) of the mask map."""
        return tuple(self.features.shape[2:])

    @torch.no_grad()
    def maps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield indices (n,) and logits (n, h, w) of some masks at a time, until all are done; without gradients."""
        if not self._is_on_cpu:
            yield torch.arange(len(self.image), device=self.image.device), self.all_maps()
            return
        for chunk in self._whole_maps():
            yield chunk.members, maps_of(self.features, self.embeddings, self.biases, chunk)

    def at_points(self, drawn: UncertainPoints) -> tuple[Tensor, Tensor]:
        """Choose the points of every mask, and compute the logits there.

        Args:
            drawn: the random points of all pairs.

        Returns:
            logits (N, P) and points (N, P, 2).
        """
        if not self._is_on_cpu:
            maps = self.all_maps()
            points = drawn.choose(self.places, maps.detach(), Window.whole(self.size))
            return sample_points(maps[:, None], points, drawn.inside).squeeze(1), points
        tensors = (self.features, self.embeddings, self.biases, self.places)
        if not self._are_windows_faster(drawn):
            return logits_at_points(*tensors, self._whole_maps(), drawn.choose, drawn.num_points, drawn.inside)
        chunks = self._windows(drawn.regions_xyxy[self.places])
        logits, points = logits_at_points(*tensors, chunks, drawn.choose_uncertain, drawn.num_uncertain, drawn.inside)
        others = drawn.anywhere[self.places]
        return torch.cat([logits, self._sample(others, drawn.inside)], dim=1), torch.cat([points, others], dim=1)

    def _are_windows_faster(self, drawn: UncertainPoints) -> bool:
        height, width = self.size
        is_sparse = drawn.num_points * MIN_CELLS_PER_POINT <= height * width
        return drawn.regions_xyxy is not None and is_sparse

    @property
    def _is_on_cpu(self) -> bool:
        return self.features.device.type == "cpu"

    def all_maps(self) -> Tensor:
        """Compute all maps (N, h, w) as one batched product, padded to the same number of masks in each image."""
        counts = torch.bincount(self.image, minlength=len(self.features))
        # The row of each mask in the padded batch is its rank among the masks of its image.
        order, row = self.image.argsort(stable=True), torch.empty_like(self.image)
        first = (counts.cumsum(0) - counts)[self.image[order]]
        row[order] = torch.arange(len(self.image), device=self.image.device) - first
        padding = self.embeddings.new_zeros(len(self.features), int(counts.max()), self.embeddings.shape[1])
        padded = padding.index_put((self.image, row), self.embeddings)
        if self.biases is None:
            maps = padded @ self.features.flatten(2)
        else:
            # The matrix product adds the biases; a second pass over all maps would take half as long again.
            biases = padding[..., 0].index_put((self.image, row), self.biases)
            maps = torch.baddbmm(biases[..., None], padded, self.features.flatten(2))
        return maps[self.image, row].unflatten(1, self.size)

    def _whole_maps(self) -> list[Chunk]:
        window = Window.whole(self.size)
        number = max(MIN_MAPS_AT_A_TIME, masks_at_a_time(*self.size, self.features.device))
        return [
            Chunk(image, part, window)
            for image, members in enumerate(self._by_image())
            for part in members.split(number)
            if len(part)
        ]

    def _windows(self, regions_xyxy: Tensor) -> list[Chunk]:
        """Group masks with the same region, (N, 4) in [0, 1] of the map, into chunks with the window around it."""
        keys = torch.cat([self.image[:, None].to(regions_xyxy), regions_xyxy], dim=1)
        different, which = keys.unique(dim=0, return_inverse=True)
        members = which.argsort(stable=True).split(torch.bincount(which, minlength=len(different)).tolist())
        return [
            Chunk(int(image), part, window)
            for image, window, group in zip(
                different[:, 0].tolist(), windows_around(different[:, 1:], self.size), members, strict=True
            )
            for part in group.split(masks_at_a_time(*window.shape, self.features.device))
        ]

    def _by_image(self) -> list[Tensor]:
        """Return the indices (n,) of the masks of each image."""
        counts = torch.bincount(self.image, minlength=len(self.features)).tolist()
        return list(self.image.argsort(stable=True).split(counts))

    def _sample(self, points: Tensor, inside: bool) -> Tensor:
        """Compute the logits (N, P) at a few points (N, P, 2) from sampled features, without a map."""
        members = self._by_image()
        # Padded to the same number of masks in each image, so that the images are sampled in parallel.
        grid = 2 * pad_sequence([points[part] for part in members], batch_first=True) - 1
        options = {"padding_mode": "border" if inside else "zeros", "align_corners": False}
        sampled = F.grid_sample(self.features, grid, **options)  # (B, C, n, P)
        logits = torch.cat([
            (self.embeddings[part, None] @ values[:, : len(part)].transpose(0, 1)).squeeze(1)
            for part, values in zip(members, sampled.unbind(), strict=True)
        ])[torch.cat(members).argsort()]  # fmt: skip
        if self.biases is not None:
            # Biases are 0 outside the map too.
            ones = torch.ones_like(self.features[:1, :1])
            logits = logits + self.biases[:, None] * F.grid_sample(ones, 2 * points[None] - 1, **options)[0, 0]
        return logits


def group_by_features(pairs: list[tuple[Prediction, Match]]) -> list[MatchedMasks]:
    """Collect the matched masks of some predictions, one `MatchedMasks` for all predictions with the same features."""
    lengths = [len(match) for _, match in pairs]
    places = torch.arange(sum(lengths), device=pairs[0][1].image.device).split(lengths)
    members: dict[int, list[int]] = {}
    for i, (prediction, _) in enumerate(pairs):
        members.setdefault(id(prediction.mask_features), []).append(i)
    return [
        MatchedMasks.join([pairs[i] for i in group], torch.cat([places[i] for i in group]))
        for group in members.values()
    ]
