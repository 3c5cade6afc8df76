"""Exporting a model and comparing the file with it."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import insta_rtdetr
from insta_rtdetr.errors import UserError, one_line
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from insta_rtdetr.predict.create import model_config
from insta_rtdetr.predict.exported import prepare
from insta_rtdetr.predict.model import Model
from insta_rtdetr.predict.runtime.metadata import MODEL_FILE, Metadata
from insta_rtdetr.predict.runtime.session import ENDINGS

from .check import AccuracyCheck, ObjectCheck
from .formats import write
from .images import read_images, training_images
from .int8 import write_int8
from .network import TopObjects
from .options import Options


def run(options: Options) -> bool:
    """Export a model, check the file against it, and report to stdout.

    Returns:
        whether the file passed the check; if it did not, no file is left.

    Raises:
        UserError, CheckpointError: an option, the config, the weights or the data are wrong.
    """
    given = read_images(options.images) if options.images or not options.dataset else []
    model = load_model(options)
    target = target_of(options, model)
    calibration = given or training_images(model.cfg) if options.precision == "int8" else []
    if options.dataset:
        check = AccuracyCheck(model, options.max_drop)
    else:
        # Calibration uses half of the images, so that the other half shows the result on new ones.
        calibration, compared = (given[::2], given[1::2] or given) if calibration else ([], given)
        check = ObjectCheck(model, compared)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        unchecked = Path(folder) / target.name
        if options.precision == "int8":
            passed = export_int8(model, options, unchecked, calibration, check)
        else:
            export(model, options, unchecked)
            passed = check(unchecked)
        if passed:
            put_in_place(unchecked, target)
    return passed


def load_model(options: Options) -> Model:
    """Build the model, which stretches images to one size as the exported network does.

    Raises:
        UserError: the model is not one of this package, or its input size is missing or wrong.
        CheckpointError: the weights do not fit.
    """
    opts = [*options.opts, "MODEL.DEVICE", "cpu"]
    cfg = model_config(options.config_file, options.weights, opts, options.dataset)
    if not issubclass(_architecture(cfg), InstanceSegmenter):
        raise UserError(f"{cfg.MODEL.META_ARCHITECTURE} is no model of insta_rtdetr.  Change --config-file.")
    if not options.size and not cfg.INPUT.FIXED_SIZE:
        raise UserError("The config keeps each image's shape (INPUT.FIXED_SIZE is empty).  Give --size H W.")
    cfg.INPUT.FIXED_SIZE = tuple(options.size or cfg.INPUT.FIXED_SIZE)
    cfg.INPUT.MULTI_SCALE, cfg.INPUT.MIN_SIZE_TEST = (), 0
    model = Model(cfg)
    divisor = model.module.preprocessor.divisibility
    if any(side % divisor for side in cfg.INPUT.FIXED_SIZE):
        raise UserError(f"--size is {' '.join(map(str, cfg.INPUT.FIXED_SIZE))}, wanted multiples of {divisor}.")
    return model


def _architecture(cfg) -> type:
    from detectron2.modeling import META_ARCH_REGISTRY

    kind = META_ARCH_REGISTRY._obj_map.get(cfg.MODEL.META_ARCHITECTURE)
    return kind if isinstance(kind, type) else object


def export(model: Model, options: Options, target: Path) -> None:
    """Write the file, or OpenVINO's folder.

    Raises:
        UserError: the network cannot be written in this format.
    """
    half = options.precision == "fp16" and options.export_format == "torch.export"
    network = TopObjects(model.module, tuple(model.cfg.INPUT.FIXED_SIZE), options.with_postprocess, half).eval()
    if options.export_format == "openvino":
        target.mkdir()
    try:
        write(network, describe(model, options), options.export_format, target)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        cause = one_line(error.__cause__ or error)[:300]
        raise UserError(f"The network cannot be written as {options.export_format}: {cause}") from error


def export_int8(
    model: Model, options: Options, target: Path, images: list[np.ndarray], check: Callable[[Path], bool]
) -> bool:
    """Write the file, or OpenVINO's folder, with backbone and encoder in int8.

    Args:
        model: the model.
        options: the options of the export.
        target: path of the file or folder.
        images: images for calibration, (H, W, 3), uint8, RGB.
        check: see `write_int8`.

    Returns:
        whether the file passes the check.

    Raises:
        UserError: see `export`; or NNCF is not installed.
    """
    float_options = replace(options, export_format="onnx", precision="fp32")
    metadata = describe(model, options)
    prepared = [prepare([image], metadata) for image in images]
    with tempfile.TemporaryDirectory() as folder:
        float_file = Path(folder) / "float32.onnx"
        export(model, float_options, float_file)
        return write_int8(float_file, options.export_format, metadata, prepared, target, check)


def describe(model: Model, options: Options) -> Metadata:
    """Make the metadata that are stored in the file."""
    cfg, postprocessor = model.cfg, model.module.postprocessor
    return Metadata(
        model=Path(options.config_file).stem,
        architecture=cfg.MODEL.META_ARCHITECTURE,
        class_names=tuple(model.categories.names),
        category_ids=tuple(model.categories.ids),
        size=tuple(cfg.INPUT.FIXED_SIZE),
        channels=cfg.INPUT.FORMAT,
        pixel_mean=tuple(cfg.MODEL.PIXEL_MEAN),
        pixel_std=tuple(cfg.MODEL.PIXEL_STD),
        postprocessor=type(postprocessor).__name__,
        max_objects=postprocessor.max_objects,
        score_threshold=cfg.TEST.SCORE_THRESHOLD,
        mask_threshold=postprocessor.mask_threshold,
        mask_resize=postprocessor.resize,
        nms_threshold=postprocessor.nms_threshold,
        with_postprocess=options.with_postprocess,
        precision=options.precision,
        dynamic_batch=options.dynamic_batch,
        version=insta_rtdetr.__version__,
        predicts_boxes=model.module.predicts_boxes,
        random_flip=cfg.INPUT.RANDOM_FLIP,
    )


def target_of(options: Options, model: Model) -> Path:
    """Return the path of the export.

    Raises:
        UserError: its ending is that of another format, its folder cannot be written to, or it exists and is no export.
    """
    ending = "_openvino" if options.export_format == "openvino" else ENDINGS[options.export_format]
    target = Path(options.output or f"{Path(options.config_file).stem}{ending}").absolute()
    if options.export_format != "openvino" and target.suffix != ending:
        raise UserError(f"--output is {options.output}, wanted a name that ends in {ending}.")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise UserError(f"The folder of --output {target} cannot be written to.  Make it or change --output.")
    is_wrong = target.is_dir() != (options.export_format == "openvino")
    if target.exists() and (is_wrong or (target.is_dir() and not (target / MODEL_FILE).is_file())):
        raise UserError(f"--output {target} is there, and is no earlier export.  Change --output.")
    return target


def put_in_place(made: Path, target: Path) -> None:
    """Move the export to its path; an older folder there is removed first."""
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(made, target)
