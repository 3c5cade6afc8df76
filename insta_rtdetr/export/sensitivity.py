"""Ranking layers by the error that they make in int8.

Each layer is quantised alone, and the change of the front's outputs is measured.  A few layers make nearly all of the
error: on dark images of nuclei, the first three of MobileNetV2's 67.
"""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from .quantization import QuantizableNetwork


def rank_layers(network: QuantizableNetwork, images: Sequence[np.ndarray]) -> list[tuple[str, float]]:
    """Measure the error of each layer when it alone is in int8.

    Args:
        network: the network, whose front is quantised once for each layer, which takes seconds each time.
        images: images, (1, 3, H, W) each; a few are enough.

    Returns:
        (name, relative squared error of the front's outputs) of each layer, the largest error first.
    """
    expected = network.features(network.front, images)
    errors = {}
    for layer in tqdm(network.layers, desc="ranking layers", unit="layer", disable=None):
        others = [name for name in network.operations if name != layer]
        found = network.features(network.quantize(images, kept=others), images)
        errors[layer] = relative_error(expected, found)
    return sorted(errors.items(), key=lambda item: -item[1])


def relative_error(expected: list[list[np.ndarray]], found: list[list[np.ndarray]]) -> float:
    """Return the mean over images and outputs of the squared error, relative to the output's mean square."""
    ratios = [
        float(np.square(b - a, dtype=np.float64).mean() / np.square(a, dtype=np.float64).mean().clip(min=1e-12))
        for outputs in zip(expected, found, strict=True)
        for a, b in zip(*outputs, strict=True)
    ]
    return sum(ratios) / len(ratios)


def most_sensitive(ranked: list[tuple[str, float]], share: float) -> list[str]:
    """Return the fewest layers without which at most the fraction `share` of all layers' errors is left."""
    left = total = sum(error for _, error in ranked)
    kept = []
    for name, error in ranked:
        if left <= share * total:
            break
        kept.append(name)
        left -= error
    return kept
