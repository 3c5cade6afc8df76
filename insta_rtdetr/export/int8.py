"""Quantising a float32 export to int8, with as many layers in int8 as a check allows."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from insta_rtdetr.predict.runtime.metadata import Metadata

from .quantization import NETWORKS
from .sensitivity import most_sensitive, rank_layers

# Number of images on which layers are ranked.
NUM_RANKED = 4
# Fractions of all layers' errors that the layers in int8 may have; they are tried in turn until the check is passed.
SHARES = (0.1, 0.03, 0.01)
# Largest fraction of the layers that may stay in float32.
MOST_KEPT = 0.5


def write_int8(
    float_file: Path, export_format: str, metadata: Metadata, images: Sequence[np.ndarray], target: Path,
    check: Callable[[Path], bool],
) -> bool:  # fmt: skip
    """Quantise backbone and encoder; each time the check fails, keep more of the most sensitive layers in float32.

    Args:
        float_file: ONNX file of the network in float32.
        export_format: "onnx" or "openvino".
        metadata: metadata of the result.
        images: images for calibration and ranking, (1, 3, H, W) each, float32, 0 to 255.
        target: file or folder that is written, also if the check fails.
        check: function that returns whether a file is good enough.

    Returns:
        whether the file that was written last passes the check.
    """
    network = NETWORKS[export_format](float_file)
    num_layers = len(network.layers)
    _say(f"calibrated on {len(images)} images: {num_layers} layers of backbone and encoder in int8")
    network.write(network.quantize(images), metadata, target)
    if check(target):
        return True
    ranked = rank_layers(network, images[:NUM_RANKED])
    kept: list[str] = []
    for share in SHARES:
        chosen = most_sensitive(ranked, share)
        if chosen == kept:
            continue
        kept = chosen
        if len(kept) > MOST_KEPT * num_layers:
            break
        _say(f"{len(kept)} of {num_layers} layers stay in float32: {', '.join(kept)}")
        network.write(network.quantize(images, kept), metadata, target)
        if check(target):
            return True
    return False


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
