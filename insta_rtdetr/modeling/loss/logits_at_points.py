"""Mask logits at points, with gradients, computed through the maps of a few masks at a time.

Computing the logits of all maps, and their gradients, which are 0 except at a few points, would take more time and
memory than the rest of the network.

Shapes: N masks, n of them at a time, B images, C channels, P points, (h, w) the mask map, (r, c) a part of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers.point_sampling import sample_points, sample_points_backward
from ...layers.tokens import project_tokens
from ...layers.window import Window

# Function of the indices of some masks (n,), their logits (n, r, c) in a window, and the window -> points (n, P, 2).
ChoosePoints = Callable[[Tensor, Tensor, Window], Tensor]


@dataclass
class Chunk:
    """Some masks of one image, and the part of the map that is computed for them.

    Attributes:
        image: index of the image.
        members: (n,), indices of the masks.
        window: the part of the map.
    """

    image: int
    members: Tensor
    window: Window


def maps_of(features: Tensor, embeddings: Tensor, biases: Tensor | None, chunk: Chunk) -> Tensor:
    """Compute the logits (n, r, c) of a chunk from features (B, C, h, w), embeddings (N, C) and biases (N,)."""
    part, embeddings = chunk.window.crop(features[chunk.image]), embeddings[chunk.members]
    biases, flat = None if biases is None else biases[chunk.members], part.flatten(1)
    if flat.T.is_contiguous():  # channels last
        logits = project_tokens(flat.T[None], embeddings, biases)[0].T.contiguous()
    elif biases is None:
        logits = embeddings @ flat
    else:
        # The matrix product adds the biases; a second pass over all maps would take half as long again.
        logits = torch.addmm(biases[:, None], embeddings, flat)
    return logits.unflatten(1, part.shape[1:])


def logits_at_points(
    features: Tensor, embeddings: Tensor, biases: Tensor | None, places: Tensor, chunks: list[Chunk],
    choose: ChoosePoints, num_points: int, inside: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Choose points from the logits of the maps, and compute the logits there.

    Args:
        features: (B, C, h, w), mask features.
        embeddings: (N, C), mask embeddings.
        biases: (N,), or None.
        places: (N,), indices of the masks that are passed to `choose`.
        chunks: chunks that contain each mask once.
        choose: function that chooses the points of some masks.
        num_points: number of points `P`.
        inside: see `sample_points`.

    Returns:
        logits (N, P), whose gradients reach features, embeddings and biases, and points (N, P, 2).
    """
    return _LogitsAtPoints.apply(features, embeddings, biases, places, chunks, choose, num_points, inside)


class _LogitsAtPoints(torch.autograd.Function):
    """Function that computes maps in the forward pass, and their gradients in the backward pass, chunk by chunk."""

    @staticmethod
    def forward(
        ctx, features: Tensor, embeddings: Tensor, biases: Tensor | None, places: Tensor, chunks: list[Chunk],
        choose: ChoosePoints, num_points: int, inside: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Choose points and compute the logits there; see `logits_at_points`."""
        logits, points = (features.new_empty(len(embeddings), num_points, *more) for more in ((), (2,)))
        for chunk in chunks:
            maps = maps_of(features, embeddings, biases, chunk)
            chosen = choose(places[chunk.members], maps, chunk.window)
            logits[chunk.members] = sample_points(maps[:, None], chunk.window.localise(chosen), inside).squeeze(1)
            points[chunk.members] = chosen
        ctx.chunks, ctx.inside, ctx.has_biases = chunks, inside, biases is not None
        ctx.mark_non_differentiable(points)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, embeddings, points)
        return logits, points

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor, _: None) -> tuple[Tensor | None, ...]:
        """Compute the gradients of features, embeddings and biases."""
        features, embeddings, points = ctx.saved_tensors
        of_features, of_embeddings = torch.zeros_like(features), torch.empty_like(embeddings)
        of_biases = embeddings.new_empty(len(embeddings)) if ctx.has_biases else None
        for chunk in ctx.chunks:
            members, window = chunk.members, chunk.window
            local = window.localise(points[members])
            of_maps = sample_points_backward(gradient[members], local, window.shape, ctx.inside).flatten(1)
            of_embeddings[members] = of_maps @ window.crop(features[chunk.image]).flatten(1).T
            if ctx.has_biases:
                of_biases[members] = of_maps.sum(1)
            if window.is_whole:
                of_features[chunk.image].flatten(1).addmm_(embeddings[members].T, of_maps)
            else:
                part = window.crop(of_features[chunk.image])
                part += (embeddings[members].T @ of_maps).view(part.shape)
        return of_features, of_embeddings, of_biases, None, None, None, None, None
