"""One model run by several runtimes, side by side: PyTorch as it is and compiled, ONNX Runtime, OpenVINO.

    network      the network's input -> classes, scores, boxes and mask maps of the top objects
    end to end   an image -> objects -> COCO RLE
"""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from insta_rtdetr.errors import UserError
from insta_rtdetr.export.formats import onnx_to_openvino
from insta_rtdetr.export.network import TopObjects
from insta_rtdetr.export.run import Options as ExportOptions
from insta_rtdetr.export.run import compare, describe, export, load_model, read_images
from insta_rtdetr.layers.mask_rle import encode_masks
from insta_rtdetr.modeling.meta_arch.base import COARSEST_STRIDE
from insta_rtdetr.predict.create import model_config
from insta_rtdetr.predict.exported import ExportedModel
from insta_rtdetr.predict.inputs import LoadedImage
from insta_rtdetr.predict.model import Model, build_module
from insta_rtdetr.predict.predictor import Predictor
from insta_rtdetr.predict.runtime.session import is_exported

from .options import Options
from .report import describe_machine, machine_line
from .subject import SEED, fit_image, load_image

# Of the objects that are made to images and RLE.
THRESHOLD = 0.3
# Names and what they are exported as; besides these, "eager", "compiled", and the path of an exported file.
EXPORTS = {
    "onnxruntime": ("onnx", "fp32"), "openvino": ("openvino", "fp32"),
    "onnxruntime-fp16": ("onnx", "fp16"), "openvino-bf16": ("openvino", "bf16"),
}  # fmt: skip
BACKENDS = ("eager", "compiled", *EXPORTS)


@dataclass
class Contender:
    """A runtime with the model.

    Attributes:
        name: of `BACKENDS`, or a file.
        precision: in which it computes.
        parity: what the comparison with the model said.
        network, end_to_end: what is timed.
    """

    name: str
    precision: str
    parity: str
    network: Callable[[], Any]
    end_to_end: Callable[[], Any]


def run_backends(options: Options) -> dict:
    """Time them; the report, whose table goes to stdout.

    Raises:
        UserError, CheckpointError: bad input.
    """
    check_backends(options.backends)
    image = load_image(options.input, "RGB") if options.input else read_images([])[0]
    with tempfile.TemporaryDirectory() as folder:
        contenders = _contenders(options, image, Path(folder))
        rows = [_measure(contenders, kind, options) for kind in ("network", "end_to_end")]
    report = {
        "config_file": options.config_file,
        "machine": describe_machine(torch.device("cpu")),
        "backends": [
            {"backend": one.name, "precision": one.precision, "parity": one.parity, "network_ms": network,
             "end_to_end_ms": whole}
            for one, network, whole in zip(contenders, *rows)
        ],
    }
    sys.stdout.write(f"{to_markdown(report)}\n")
    return report


def check_backends(names: list[str]) -> None:
    """Refuse what is no backend.

    Raises:
        UserError: names it.
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
        if name in ("eager", "compiled"):
            contenders.append(_pytorch(name, model, batch))
            continue
        exported = ExportedModel(_export(name, model, settings, folder) if name in EXPORTS else name)
        parity = "passed" if compare(model, exported, images).passed else "FAILED"
        contenders.append(_exported(name, exported, parity, batch))
    return contenders


def _export(name: str, model: Model, settings: ExportOptions, folder: Path) -> Path:
    """Write a backend's file; OpenVINO's are made of the float32 ONNX file, which is written once."""
    export_format, precision = EXPORTS[name]
    settings = replace(settings, export_format=export_format, precision=precision)
    target = folder / f"{name}.onnx"
    if export_format == "onnx":
        export(model, settings, target)
        return target
    onnx_file = folder / "onnxruntime.onnx"
    if not onnx_file.exists():
        _export("onnxruntime", model, settings, folder)
    onnx_to_openvino(onnx_file, describe(model, settings), target.with_suffix(""))
    return target.with_suffix("")


def _settings(options: Options, image: np.ndarray, folder: Path) -> ExportOptions:
    """Of the exports; without weights, random ones."""
    weights = options.weights
    try:
        cfg = model_config(options.config_file, weights, options.opts)
    except UserError:
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


def _pytorch(name: str, model: Model, batch: list[LoadedImage]) -> Contender:
    network = TopObjects(model.module, tuple(model.cfg.INPUT.FIXED_SIZE), with_postprocess=False, half=False).eval()
    runner = model
    if name == "compiled":
        network = torch.compile(network)
        runner = Model(model.cfg)
        runner.module.fuse()
        runner.module.run_network = torch.compile(runner.module.run_network)
    images = torch.from_numpy(np.stack([loaded.image for loaded in batch])).permute(0, 3, 1, 2).float()
    images = torch.nn.functional.interpolate(images, size=tuple(model.cfg.INPUT.FIXED_SIZE))
    images = images.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run_network() -> Any:
        return network(images)

    return Contender(name, "fp32", "-", run_network, lambda: _to_rle(runner, batch))


def _exported(name: str, exported: ExportedModel, parity: str, batch: list[LoadedImage]) -> Contender:
    if len(batch) > 1 and not exported.metadata.dynamic_batch:
        raise UserError(f"{name} takes one image, --batch-size is {len(batch)}.  Export it with --dynamic-batch.")
    images = exported.prepare([loaded.image for loaded in batch])
    run_network = lambda: exported.session(images)  # noqa: E731
    return Contender(name, exported.session.precision, parity, run_network, lambda: _to_rle(exported, batch))


def _to_rle(predictor: Predictor, batch: list[LoadedImage]) -> list:
    return [encode_masks(result.instances.pred_masks) for result in predictor.predict_batch(batch, THRESHOLD)]


def _measure(contenders: list[Contender], kind: str, options: Options) -> list[float]:
    """Median milliseconds of each; all take turns, so that what else the machine does is shared by all."""
    times: list[list[float]] = [[] for _ in contenders]
    for run in range(options.warmup + options.runs):
        for one, measured in zip(contenders, times):
            call = getattr(one, kind)
            call()  # brings its threads and weights back, which those before it have pushed aside
            start = time.perf_counter()
            call()
            if run >= options.warmup:
                measured.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(measured) for measured in times]


def compare_models(reports: list[dict]) -> str:
    """One line a model: the network's milliseconds with each backend.

    The ratio is the best one's of those that find what the model finds, to the first one.
    """
    lines = []
    for report in reports:
        rows = report["backends"]
        cells = [f"{row['network_ms']:.0f}{' (differs)' * (row['parity'] == 'FAILED')}" for row in rows]
        best = min((row["network_ms"] for row in rows if row["parity"] != "FAILED"), default=math.nan)
        lines.append([Path(report["config_file"]).stem, *cells, f"{best / rows[0]['network_ms']:.2f}"])
    headers = ["network, ms", *(row["backend"] for row in reports[0]["backends"]), "best ratio"]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def to_markdown(report: dict) -> str:
    """The table, with ratios to the first backend."""
    rows = report["backends"]
    headers = ["backend", "precision", "network, ms", "ratio", "end to end, ms", "ratio", "parity"]
    cells = [
        [
            row["backend"], row["precision"],
            f"{row['network_ms']:.1f}", f"{row['network_ms'] / rows[0]['network_ms']:.2f}",
            f"{row['end_to_end_ms']:.1f}", f"{row['end_to_end_ms'] / rows[0]['end_to_end_ms']:.2f}", row["parity"],
        ]
        for row in rows
    ]  # fmt: skip
    title = f"{report['config_file']}, {machine_line(report['machine'])}"
    return f"{title}\n\n{tabulate(cells, headers=headers, tablefmt='github', disable_numparse=True)}"
