"""From the options to an exported file that was compared with the model."""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import insta_rtdetr
from insta_rtdetr.errors import UserError, one_line
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from insta_rtdetr.predict.create import model_config
from insta_rtdetr.predict.exported import ExportedModel
from insta_rtdetr.predict.inputs import find_inputs
from insta_rtdetr.predict.model import Model
from insta_rtdetr.predict.predictor import Predictor
from insta_rtdetr.predict.runtime.metadata import MODEL_FILE, Metadata
from insta_rtdetr.predict.runtime.session import ENDINGS

from .formats import FORMATS, write
from .network import TopObjects
from .parity import TOLERANCES, Parity

PRECISIONS = tuple(TOLERANCES)
# Photographs that come with scikit-image.
EXAMPLE_IMAGES = ("coins", "astronaut", "chelsea", "coffee")
# Images that are given at a time to a file that takes any number.
COMPARED_BATCH = 3


@dataclass
class Options:
    """The command line of `tools/export.py`.

    Attributes:
        config_file: name or file of a config, or a checkpoint.
        weights: checkpoint; empty for the published one.
        export_format: one of FORMATS.
        precision: one of PRECISIONS.
        dynamic_batch: any number of images at a time.
        with_postprocess: masks of the input's pixels.
        size: (height, width) of the input in pixels; None for INPUT.FIXED_SIZE.
        output: file, or folder of OpenVINO's; empty for the model's name here.
        images: images to compare on; empty for `EXAMPLE_IMAGES`.
        opts: KEY VALUE pairs of the config.
    """

    config_file: str
    weights: str = ""
    export_format: str = "onnx"
    precision: str = "fp32"
    dynamic_batch: bool = False
    with_postprocess: bool = False
    size: tuple[int, int] | None = None
    output: str = ""
    images: list[str] = field(default_factory=list)
    opts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check what needs no model.

        Raises:
            UserError: names the option.
        """
        choices_of = {"format": (self.export_format, FORMATS), "precision": (self.precision, PRECISIONS)}
        for name, (value, choices) in choices_of.items():
            if value not in choices:
                raise UserError(f"--{name} is {value}, wanted one of {', '.join(choices)}.")
        if self.precision == "bf16" and self.export_format != "openvino":
            raise UserError(f"--precision bf16 is for --format openvino, got {self.export_format}.  Choose fp16.")
        if self.size and min(self.size) < 1:
            raise UserError(f"--size is {self.size[0]} {self.size[1]}, wanted two positive numbers.")


def run(options: Options) -> bool:
    """Export, compare, report to stdout; whether the two agree.  If they do not, nothing is left.

    Raises:
        UserError, CheckpointError: bad input.
    """
    images = read_images(options.images)
    model = load_model(options)
    target = target_of(options, model)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        unchecked = Path(folder) / target.name
        export(model, options, unchecked)
        exported = ExportedModel(unchecked)
        parity = compare(model, exported, images)
        facts = f"{options.export_format}, {options.precision}, computed in {exported.session.precision}"
        sys.stdout.write(f"{target}: {facts}\n{parity.to_table()}\n")
        del exported
        if parity.passed:
            put_in_place(unchecked, target)
    return parity.passed


def load_model(options: Options) -> Model:
    """The model, which stretches images to one size as the exported network does.

    Raises:
        UserError: it has no network that can be exported, or no size.
        CheckpointError: the weights do not fit.
    """
    cfg = model_config(options.config_file, options.weights, [*options.opts, "MODEL.DEVICE", "cpu"])
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
    """Write a file, or a folder of OpenVINO's.

    Raises:
        UserError: the network has an operation that the format has not.
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


def describe(model: Model, options: Options) -> Metadata:
    """What the file will say of itself."""
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
    )


def compare(model: Predictor, exported: ExportedModel, images: list[np.ndarray]) -> Parity:
    """Both on the same images, whatever the scores."""
    metadata = exported.metadata
    if metadata.with_postprocess:
        # Masks are made for the input's pixels; in an image of another size they would be resized once more.
        images = [np.asarray(Image.fromarray(image).resize(metadata.size[::-1])) for image in images]
    batch_size = COMPARED_BATCH if metadata.dynamic_batch else 1
    parity = Parity(TOLERANCES[metadata.precision])
    for expected, found in zip(model.predict(images, 0.0, batch_size), exported.predict(images, 0.0, batch_size)):
        parity.add(expected, found)
    return parity


def read_images(names: list[str]) -> list[np.ndarray]:
    """The images to compare on, (H, W, 3), uint8, RGB.

    Raises:
        UserError, ImageError: one cannot be read, or none is given and scikit-image is not installed.
    """
    if names:
        return [loaded.image for one in find_inputs(names) for loaded in one.read()]
    try:
        from skimage import data
    except ImportError as error:
        raise UserError("There are no images to compare on.  Give --images, or: pip install scikit-image") from error
    images = [getattr(data, name)() for name in EXAMPLE_IMAGES]
    return [np.stack([image] * 3, axis=2) if image.ndim == 2 else image for image in images]


def target_of(options: Options, model: Model) -> Path:
    """Where the export goes.

    Raises:
        UserError: its ending is another format's, its folder does not exist, or something else lies there.
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
    """Rename; a folder that is there already makes way."""
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(made, target)
