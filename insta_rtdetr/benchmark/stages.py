"""Timing the stages of prediction, and prediction as a whole."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import torch
from detectron2.structures import Instances
from torch import Tensor

from insta_rtdetr.engine.progress import peak_bytes
from insta_rtdetr.errors import UserError
from insta_rtdetr.layers.mask_rle import encode_masks
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter

from .subject import Subject


def time_end_to_end(subject: Subject, runs: int, warmup: int) -> list[float]:
    """Return the milliseconds of each timed call from images on the host to RLE."""
    device = subject.model.device

    def call() -> None:
        _encode(predict(subject))

    with inference_mode(subject):
        for _ in range(warmup):
            call()
        return [_timed(call, device)[0] for _ in range(runs)]


def time_stages(subject: Subject, runs: int, warmup: int) -> dict[str, list[float]]:
    """Return the milliseconds of each stage in each timed run; a stage gets the result of the one before it."""
    device = subject.model.device
    stages = _stages(subject)
    times: dict[str, list[float]] = {name: [] for name in stages}
    with inference_mode(subject):
        for run in range(warmup + runs):
            value = subject.batched_inputs
            for name, stage in stages.items():
                elapsed, value = _timed(lambda stage=stage, value=value: stage(value), device)
                if run >= warmup:
                    times[name].append(elapsed)
    return times


def time_pycocotools(subject: Subject, runs: int) -> list[float]:
    """Return the milliseconds in which Detectron2's COCOEvaluator makes the same RLE, for comparison."""
    with inference_mode(subject):
        results = predict(subject)
        _encode_as_evaluator(results)
        return [_timed(lambda: _encode_as_evaluator(results), subject.model.device)[0] for _ in range(runs)]


def _stages(subject: Subject) -> dict[str, Callable[[Any], Any]]:
    model = subject.model
    if not isinstance(model, InstanceSegmenter):
        return {"model": lambda inputs: predict(subject), "rle": _encode}
    sizes = model.preprocessor(subject.batched_inputs).sizes
    return {
        "preprocess": lambda inputs: model.preprocessor(inputs).images,
        "network": model._predict,
        "postprocess": lambda prediction: model.postprocessor(prediction, sizes),
        "rle": _encode,
    }


def predict(subject: Subject) -> list[Instances]:
    """Call the model.

    Raises:
        UserError: the model predicts no masks.
    """
    results = subject.model(subject.batched_inputs)
    instances = [result.get("instances") for result in results]
    if any(found is None or not found.has("pred_masks") for found in instances):
        raise UserError(
            f"{type(subject.model).__name__} gives no instance masks, wanted an instance-segmentation model.  "
            "Change --config-file, or set MODEL.MASK_ON True."
        )
    return instances


@contextmanager
def inference_mode(subject: Subject) -> Iterator[None]:
    """Turn gradients off and the subject's autocast on within the context."""
    dtype, device = subject.autocast_dtype, subject.model.device
    with torch.no_grad(), torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        yield


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak memory of a GPU; that of a process on CPU cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> tuple[float, str]:
    """Return the peak memory in MiB, and a description of what is counted."""
    kind = "resident set of the whole process, Python and building the model included (getrusage)"
    if device.type == "cuda":
        kind = "GPU memory allocated by PyTorch (max_memory_allocated)"
    return peak_bytes(device) / 2**20, kind


def _timed(call: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    _synchronize(device)
    start = time.perf_counter()
    value = call()
    _synchronize(device)
    return (time.perf_counter() - start) * 1e3, value


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _encode(results: list[Instances]) -> list[list[dict]]:
    return [encode_masks(instances.pred_masks) for instances in results]


def _encode_as_evaluator(results: list[Instances]) -> list[list[dict]]:
    return [_encode_one_by_one(instances.pred_masks.cpu()) for instances in results]


def _encode_one_by_one(masks: Tensor) -> list[dict]:
    """Encode masks as detectron2.evaluation.coco_evaluation.instances_to_coco_json does."""
    return [coco_mask.encode(np.array(mask[:, :, None], order="F", dtype="uint8"))[0] for mask in masks.numpy()]
