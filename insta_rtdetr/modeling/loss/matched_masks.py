"""Mask logits of the matched queries alone.

Shapes: N matched pairs, (h, w) the mask map.
"""

import torch
from torch import Tensor

from ...structures import Match, Prediction
from .matcher import full_precision


def matched_mask_logits(pairs: list[tuple[Prediction, Match]]) -> Tensor:
    """Compute the mask logits (N, h, w) of the matched queries of some predictions, one prediction after the other.

    Predictions that share mask features are computed together, so that each image's features are read once.
    """
    groups: dict[int, list[int]] = {}
    for i, (prediction, _) in enumerate(pairs):
        groups.setdefault(id(prediction.mask_features), []).append(i)
    if len(groups) == 1:
        return _logits_of_shared_features(pairs)
    logits = [None] * len(pairs)
    for members in groups.values():
        together = _logits_of_shared_features([pairs[i] for i in members])
        for i, part in zip(members, together.split([len(pairs[i][1]) for i in members]), strict=True):
            logits[i] = part
    return torch.cat(logits)


def _logits_of_shared_features(pairs: list[tuple[Prediction, Match]]) -> Tensor:
    features = full_precision(pairs[0][0].mask_features)
    embeddings = torch.cat([p.mask_embeddings[match.image, match.query] for p, match in pairs])
    image = torch.cat([match.image for _, match in pairs])
    counts = torch.bincount(image, minlength=len(features))
    # The row of each query in the padded batch is its rank among the queries of its image.
    order = image.argsort(stable=True)
    row = torch.empty_like(image)
    row[order] = torch.arange(len(image), device=image.device) - (counts.cumsum(0) - counts)[image[order]]
    padding = embeddings.new_zeros(len(features), int(counts.max()), embeddings.shape[1], dtype=features.dtype)
    padded = padding.index_put((image, row), embeddings.to(features))
    biases = [p.mask_biases[match.image, match.query] for p, match in pairs if p.mask_biases is not None]
    if biases:
        # The matrix product adds the biases; a second pass over all maps would take half as long again.
        padded_biases = padding[..., 0].index_put((image, row), torch.cat(biases).to(features))
        logits = torch.baddbmm(padded_biases[..., None], padded, features.flatten(2))
    else:
        logits = padded @ features.flatten(2)
    return logits[image, row].unflatten(1, features.shape[2:])
