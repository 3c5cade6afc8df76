"""The masks of matched queries, made without those of the others and a few at a time.

Shapes: N matched pairs, n of them at a time, B images, C channels, P points, (h, w) the mask map.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers.chunks import masks_at_a_time
from ...layers.point_sampling import sample_points, sample_points_backward
from ...layers.precision import full_precision
from ...structures import Match, Prediction

# Places of some masks, (n,), and their logits (n, h, w) -> points (n, P, 2).
ChoosePoints = Callable[[Tensor, Tensor], Tensor]


@dataclass
class MatchedMasks:
    """Masks of queries that share their features: dot products that nobody has computed yet.

    Attributes:
        features: (B, C, h, w).
        embeddings: (N, C).
        biases: (N,), or None.
        image: (N,), the image of each query.
        places: (N,), where each stands in the row of all pairs, those with other features included.
    """

    features: Tensor
    embeddings: Tensor
    biases: Tensor | None
    image: Tensor
    places: Tensor

    @classmethod
    def join(cls, pairs: list[tuple[Prediction, Match]], places: Tensor | None = None) -> "MatchedMasks":
        """The matched queries of predictions with the same features, one prediction after the other."""
        features = full_precision(pairs[0][0].mask_features)
        embeddings = torch.cat([p.mask_embeddings[match.image, match.query] for p, match in pairs])
        biases = [p.mask_biases[match.image, match.query] for p, match in pairs if p.mask_biases is not None]
        image = torch.cat([match.image for _, match in pairs])
        places = torch.arange(len(image), device=image.device) if places is None else places
        return cls(features, embeddings.to(features), torch.cat(biases).to(features) if biases else None, image, places)

    def chunks(self) -> list[tuple[int, Tensor]]:
        """An image and indices (n,) of some of its masks, as many as are worked on at a time."""
        size = masks_at_a_time(*self.features.shape[2:], self.features.device)
        counts = torch.bincount(self.image, minlength=len(self.features)).tolist()
        by_image = self.image.argsort(stable=True).split(counts)
        return [(image, part) for image, members in enumerate(by_image) for part in members.split(size) if len(part)]

    @torch.no_grad()
    def maps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices (n,) and logits (n, h, w) of some masks, until all have been given; without gradients."""
        for image, part in self.chunks():
            biases = None if self.biases is None else self.biases[part]
            yield part, _maps(self.features[image], self.embeddings[part], biases)

    def at_points(self, choose: ChoosePoints, num_points: int, inside: bool) -> tuple[Tensor, Tensor]:
        """Logits (N, P) at points (N, P, 2) that are chosen by the logits of the whole maps.

        Args:
            choose: gives the points of some masks, which it knows by their places.
            num_points: `P`.
            inside: see `sample_points`.
        """
        tensors = (self.features, self.embeddings, self.biases, self.image, self.places)
        return _LogitsAtPoints.apply(*tensors, choose, num_points, inside)


def group_by_features(pairs: list[tuple[Prediction, Match]]) -> list[MatchedMasks]:
    """The matched masks of some predictions, together where they have the same features."""
    lengths = [len(match) for _, match in pairs]
    places = torch.arange(sum(lengths), device=pairs[0][1].image.device).split(lengths)
    members: dict[int, list[int]] = {}
    for i, (prediction, _) in enumerate(pairs):
        members.setdefault(id(prediction.mask_features), []).append(i)
    return [
        MatchedMasks.join([pairs[i] for i in group], torch.cat([places[i] for i in group]))
        for group in members.values()
    ]


def _maps(features: Tensor, embeddings: Tensor, biases: Tensor | None) -> Tensor:
    """(C, h, w), (n, C) and (n,) -> (n, h, w)."""
    flat = features.flatten(1)
    # Added by the product: a pass over all maps would take half as long again.
    logits = embeddings @ flat if biases is None else torch.addmm(biases[:, None], embeddings, flat)
    return logits.unflatten(1, features.shape[1:])


class _LogitsAtPoints(torch.autograd.Function):
    """Whole maps are made for a few masks at a time, in both directions, so that they stay in a processor's cache.

    A gradient of all maps at once, zero but at a few points, took more time than the network.
    """

    @staticmethod
    def forward(
        ctx, features: Tensor, embeddings: Tensor, biases: Tensor | None, image: Tensor, places: Tensor,
        choose: ChoosePoints, num_points: int, inside: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """See `MatchedMasks.at_points`."""
        masks = MatchedMasks(features, embeddings, biases, image, places)
        logits, points = (features.new_empty(len(image), num_points, *more) for more in ((), (2,)))
        for part, maps in masks.maps():
            points[part] = choose(places[part], maps)
            logits[part] = sample_points(maps[:, None], points[part], inside).squeeze(1)
        ctx.chunks, ctx.inside, ctx.has_biases = masks.chunks(), inside, biases is not None
        ctx.mark_non_differentiable(points)
        ctx.save_for_backward(features, embeddings, points)
        return logits, points

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of features, embeddings and biases."""
        features, embeddings, points = ctx.saved_tensors
        of_features, of_embeddings = torch.zeros_like(features), torch.empty_like(embeddings)
        of_biases = embeddings.new_empty(len(embeddings)) if ctx.has_biases else None
        for image, part in ctx.chunks:
            of_maps = sample_points_backward(gradient[part], points[part], features.shape[2:], ctx.inside).flatten(1)
            of_embeddings[part] = of_maps @ features[image].flatten(1).T
            of_features[image].flatten(1).addmm_(embeddings[part].T, of_maps)
            if ctx.has_biases:
                of_biases[part] = of_maps.sum(1)
        return of_features, of_embeddings, of_biases, None, None, None, None, None
