"""Comparison of runtimes for one model: PyTorch (eager and compiled), ONNX Runtime and OpenVINO.

    network      the network's input -> classes, scores, boxes and mask maps of the best objects
    end to end   an image -> objects -> COCO RLE
"""

import math
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from insta_rtdetr.errors import UserError
from insta_rtdetr.export.check import compare, compare_predictors
from insta_rtdetr.export.formats import onnx_to_openvino
from insta_rtdetr.export.images import read_images
from insta_rtdetr.export.int8 import write_int8
from insta_rtdetr.export.network import TopObjects
from insta_rtdetr.export.options import Options as ExportOptions
from insta_rtdetr.export.run import describe, export, load_model
from insta_rtdetr.layers.mask_rle import encode_masks
from insta_rtdetr.modeling.meta_arch.base import COARSEST_STRIDE
from insta_rtdetr.predict.create import model_config
from insta_rtdetr.predict.exported import ExportedModel, prepare
from insta_rtdetr.predict.inputs import LoadedImage
from insta_rtdetr.predict.model import Model, build_module
from insta_rtdetr.predict.predictor import Predictor
from insta_rtdetr.predict.runtime.session import is_exported
from insta_rtdetr.zoo import PREFIX, find_published, is_cached

from .comparison import KINDS, describe_times, to_markdown
from .options import Options
from .report import describe_machine
from .subject import SEED, fit_image, load_image
from .timing import time_in_turn

# Lowest score of the objects whose masks are made and encoded.
THRESHOLD = 0.3
# Backend -> format and precision of its file.  Other backends are those of PyTorch, and paths of exported files.
EXPORTS = {
    "onnxruntime": ("onnx", "fp32"), "openvino": ("openvino", "fp32"),
    "onnxruntime-fp16": ("onnx", "fp16"), "openvino-bf16": ("openvino", "bf16"),
    "onnxruntime-int8": ("onnx", "int8"), "openvino-int8": ("openvino", "int8"),
}  # fmt: skip
BACKENDS = ("eager", "eager-bf16", "compiled", *EXPORTS)


@dataclass
class Contender:
    """A backend that is ready to be timed.

    Attributes:
        name: one of `BACKENDS`, or the path of an exported file.
        precision: precision of its computation.
        parity: result of the comparison with the model.
        network, end_to_end: functions that are timed.
    """

    name: str
    precision: str
    parity: str
    network: Callable[[], Any]
    end_to_end: Callable[[], Any]


def run_backends(options: Options) -> dict:
    """Time the backends, write the table to stdout, and return the report.

    Raises:
        UserError, CheckpointError: an option, the config or the weights are wrong.
    """
    check_backends(options.backends)
    image = load_image(options.input, "RGB") if options.input else read_images([])[0]
    with tempfile.TemporaryDirectory() as folder:
        contenders = _contenders(options, image, Path(folder))
        times = {
            kind: time_in_turn([getattr(one, kind) for one in contenders], options.runs, options.warmup)
            for kind in KINDS
        }
    rows, warnings = describe_times(times, [one.name for one in contenders], options.runs)
    report = {
        "config_file": options.config_file,
        "machine": describe_machine(torch.device("cpu")),
        "runs": options.runs,
        "warmup": options.warmup,
        "backends": [
            {"backend": one.name, "precision": one.precision, "parity": one.parity, **row}
            for one, row in zip(contenders, rows)
        ],
        "warnings": warnings,
    }
    sys.stdout.write(f"{to_markdown(report)}\n")
    return report


def check_backends(names: list[str]) -> None:
    """Check that all names are those of backends.

    Raises:
        UserError: a name is not; the message quotes it.
    """
    for name in names:
        if name not in BACKENDS and not is_exported(name):
            raise UserError(f"--backends has {name}, wanted {', '.join(BACKENDS)} or an exported file.")


def _contenders(options: Options, image: np.ndarray, folder: Path) -> list[Contender]:
    batch = [LoadedImage(image, "image")] * options.batch_size
    if all(is_exported(name) for name in options.backends):
        return [_exported(name, ExportedModel(name), "not compared", batch) for name in options.backends]
    settings = _settings(options, image, folder)
    model = load_model(settings)
    images = read_images([options.input] if options.input else [])
    contenders = []
    for name in options.backends:
        if name in BACKENDS and name not in EXPORTS:
            contenders.append(_pytorch(name, model, images, batch))
            continue
        exported = ExportedModel(_export(name, model, settings, folder, images) if name in EXPORTS else name)
        parity = "passed" if compare(model, exported, images).passed else "FAILED"
        contenders.append(_exported(name, exported, parity, batch))
    return contenders


def _export(name: str, model: Model, settings: ExportOptions, folder: Path, images: list[np.ndarray]) -> Path:
    """Write the file of a backend; most are converted from the float32 ONNX file, which is written once.

    Args:
        name: a key of `EXPORTS`.
        model: the model.
        settings: options of the export.
        folder: folder of the files.
        images: images on which int8 is calibrated, in all layers of backbone and encoder and without a check.
    """
    export_format, precision = EXPORTS[name]
    target = folder / (f"{name}.onnx" if export_format == "onnx" else name)
    float_file = folder / "onnxruntime.onnx"
    if (export_format, precision) in (("onnx", "fp32"), ("onnx", "fp16")):
        if not target.exists():
            export(model, replace(settings, export_format=export_format, precision=precision), target)
        return target
    _export("onnxruntime", model, settings, folder, images)
    metadata = replace(describe(model, settings), precision=precision)
    if precision == "int8":
        prepared = [prepare([image], metadata) for image in images]
        write_int8(float_file, export_format, metadata, prepared, target, check=lambda file: True)
    else:
        onnx_to_openvino(float_file, metadata, target)
    return target


def _settings(options: Options, image: np.ndarray, folder: Path) -> ExportOptions:
    """Make the options of the exports, with random weights if there are none on this machine."""
    cfg, weights = None, options.weights
    with nullcontext() if weights else suppress(UserError):
        cfg = model_config(options.config_file, weights, options.opts)
    if cfg is None or not (weights or _is_on_disk(cfg.MODEL.WEIGHTS)):
        cfg = model_config(options.config_file, "random", [*options.opts, "MODEL.DEVICE", "cpu"])
        torch.manual_seed(SEED)
        weights = str(folder / "random.pth")
        torch.save({"model": build_module(cfg).state_dict()}, weights)
    size = options.size
    if not size and not cfg.INPUT.FIXED_SIZE:
        height, width = fit_image(image, cfg, None).shape[:2]
        size = tuple(COARSEST_STRIDE * math.ceil(side / COARSEST_STRIDE) for side in (height, width))
    return ExportOptions(
        options.config_file, weights, size=size, opts=options.opts, dynamic_batch=options.batch_size > 1
    )


def _is_on_disk(weights: str) -> bool:
    """Tell whether weights need no download; a benchmark measures time, for which random ones do as well."""
    return not weights.startswith(PREFIX) or is_cached(find_published(weights.removeprefix(PREFIX)))


def _pytorch(name: str, model: Model, images: list[np.ndarray], batch: list[LoadedImage]) -> Contender:
    runner, parity = model, "-"
    if name == "eager-bf16":
        runner = Model(model.cfg, "bf16")
        parity = "passed" if compare_predictors(model, runner, images, "bf16").passed else "FAILED"
    network = TopObjects(runner.module, tuple(model.cfg.INPUT.FIXED_SIZE), with_postprocess=False, half=False).eval()
    if name == "compiled":
        network = torch.compile(network)
        runner = Model(model.cfg)
        runner.module.fuse()
        runner.module.run_network = torch.compile(runner.module.run_network)
    pixels = torch.from_numpy(np.stack([loaded.image for loaded in batch])).permute(0, 3, 1, 2).float()
    pixels = torch.nn.functional.interpolate(pixels, size=tuple(model.cfg.INPUT.FIXED_SIZE))
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run_network() -> Any:
        return network(pixels)

    return Contender(name, runner.precision, parity, run_network, lambda: _to_rle(runner, batch))


def _exported(name: str, exported: ExportedModel, parity: str, batch: list[LoadedImage]) -> Contender:
    if len(batch) > 1 and not exported.metadata.dynamic_batch:
        raise UserError(f"{name} takes one image, --batch-size is {len(batch)}.  Export it with --dynamic-batch.")
    images = prepare([loaded.image for loaded in batch], exported.metadata)
    run_network = lambda: exported.session(images)  # noqa: E731
    return Contender(name, exported.session.precision, parity, run_network, lambda: _to_rle(exported, batch))


def _to_rle(predictor: Predictor, batch: list[LoadedImage]) -> list:
    return [encode_masks(result.instances.pred_masks) for result in predictor.predict_batch(batch, THRESHOLD)]
