"""From a float32 export to an int8 one that passes a check, with as many layers in int8 as the check allows."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from insta_rtdetr.predict.runtime.metadata import Metadata

from .quantization import NETWORKS
from .sensitivity import most_sensitive, rank_layers

# Images that layers are ranked on.
NUM_RANKED = 4
# What the layers in int8 may have of all layers' errors, in turn, until the check is passed.
SHARES = (0.1, 0.03, 0.01)
# Past that share of layers in float32 it is no int8 network.
MOST_KEPT = 0.5


def write_int8(
    float_file: Path, export_format: str, metadata: Metadata, images: Sequence[np.ndarray], target: Path,
    check: Callable[[Path], bool],
) -> bool:  # fmt: skip
    """Quantise backbone and encoder; if the check fails, keep the most sensitive layers in float32, more each time.

    Args:
        float_file: the network as ONNX file.
        export_format: "onnx" or "openvino".
        metadata: of the result.
        images: (1, 3, H, W) each, float32, 0 to 255, for calibration and ranking.
        target: file or folder to write, which need not pass.
        check: tells whether a file is good enough.

    Returns:
        Whether the file that was written last passes.
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
