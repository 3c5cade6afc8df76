"""Counting multiply-adds."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from insta_rtdetr.layers.tokens import ONEDNN_LINEAR
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter

from .stages import predict
from .subject import Subject

CONVENTION = (
    "one multiply-add is one FLOP, as fvcore and detectron2 count (torch.utils.flop_counter's number halved); "
    "convolutions, matrix products and attention are counted, nothing else; one image; double it to compare with "
    "papers that count a multiply-add as two, as the YOLO family does"
)


def _linear_flops(x_shape: torch.Size, weight_shape: torch.Size, *_, out_shape: torch.Size, **__) -> int:
    return 2 * math.prod(out_shape) * weight_shape[1]


# Operators that PyTorch's counter does not know.
FLOPS_OF = {ONEDNN_LINEAR: _linear_flops} if ONEDNN_LINEAR else {}


def count_multiply_adds(call: Callable[[], Any]) -> int:
    """Count the multiply-adds of `call`, whose modules must not be compiled."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    # PyTorch cannot count fused attention kernels on the CPU; without them, attention is two matrix products.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counter = FlopCounterMode(display=False, custom_mapping=FLOPS_OF)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    return counter.get_total_flops() // 2


def count_subject(subject: Subject) -> dict[str, float]:
    """Count GFLOPs for one image: of the network and of postprocessing, or of one of Detectron2's own models."""
    inputs, model = subject.batched_inputs[:1], subject.model
    if not isinstance(model, InstanceSegmenter):
        return {"model": count_multiply_adds(lambda: model(inputs)) / 1e9}
    batch = model.preprocessor(inputs)
    network = model._inference_network()
    layers = []
    # The method of the class is called, because that of the instance may be compiled.
    count = count_multiply_adds(lambda: layers.extend(type(network).run_network(network, batch.images).layers))
    masks = count_multiply_adds(lambda: model.postprocessor(layers[-1], batch.sizes))
    return {"network": count / 1e9, "postprocess": masks / 1e9}


def network_input(subject: Subject) -> list[int]:
    """Return (height, width) of the network's input in pixels."""
    if isinstance(subject.model, InstanceSegmenter):
        return list(subject.model.preprocessor(subject.batched_inputs[:1]).images.shape[2:])
    return list(subject.batched_inputs[0]["image"].shape[1:])


def count_objects(subject: Subject) -> int:
    """Count the objects that are found in the image."""
    with torch.no_grad():
        return len(predict(subject)[0])
