"""The subject of a benchmark: a model built from a config, and its input."""

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms
from detectron2.data.detection_utils import read_image
from PIL import UnidentifiedImageError
from torch import Tensor, nn

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.data import config_class_names
from insta_rtdetr.engine.setup import setup_cfg
from insta_rtdetr.errors import UserError, one_line
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from insta_rtdetr.predict.model import build_module
from insta_rtdetr.predict.precision import use_precision

from .options import AUTOCAST_DTYPES, Options

SEED = 0
SYNTHETIC_SIZE = (480, 640)  # (height, width) in pixels of most images of COCO
_OWN_OPTION = {"MODEL.WEIGHTS": "--weights", "MODEL.DEVICE": "--device"}


@dataclass
class Subject:
    """A model and its input.

    Attributes:
        cfg: config of the model.
        model: the model in eval mode, on its device.
        batched_inputs: the same image for each image of the batch, on the host.
        input_size: (height, width) of the image and of the result in pixels.
        weights: path of the weights, or a description of random ones.
        num_parameters: number of the model's parameters before anything is fused.
        precision: precision in which the model computes.
        autocast_dtype: type of autocast around the whole model; None for no autocast.
        is_compiled: whether the network is compiled with torch.compile.
    """

    cfg: CfgNode
    model: nn.Module
    batched_inputs: list[dict]
    input_size: tuple[int, int]
    weights: str
    num_parameters: int
    precision: str = "fp32"
    autocast_dtype: torch.dtype | None = None
    is_compiled: bool = False


def build_subject(options: Options) -> Subject:
    """Build the model, load its weights and make its input.

    Raises:
        UserError, CheckpointError: config, image or weights are missing or wrong.
    """
    cfg = benchmark_config(options)
    image = load_image(options.input, cfg.INPUT.FORMAT)
    height, width = image.shape[:2]
    image = to_tensor(fit_image(image, cfg, options.size))
    torch.manual_seed(SEED)
    model = build_module(cfg)
    if options.weights:
        Checkpointer(model, class_names=config_class_names(cfg)).load(options.weights, checkpointables=[])
    inputs = [{"image": image, "height": height, "width": width} for _ in range(options.batch_size)]
    weights = options.weights or f"random, seed {SEED}"
    subject = Subject(cfg, model, inputs, (height, width), weights, count_parameters(model))
    set_precision(subject, options.precision)
    if options.compile:
        compile_network(subject)
    elif isinstance(model, InstanceSegmenter):
        model._inference_network()  # makes the fused copy now, because it must not be made under autocast
    return subject


def set_precision(subject: Subject, precision: str) -> None:
    """Set the precision of the model: bf16 of this package's models by `use_precision`, everything else by autocast."""
    if precision == "bf16" and isinstance(subject.model, InstanceSegmenter):
        subject.precision = use_precision(subject.model, precision)
    else:
        subject.precision, subject.autocast_dtype = precision, AUTOCAST_DTYPES[precision]


def benchmark_config(options: Options) -> CfgNode:
    """Build the config, with 100 objects of any score in an image, so that random weights have masks too.

    Raises:
        UserError: `opts` set a key that has an option of its own, or `setup_cfg` refuses them.
    """
    if len(options.opts) % 2:
        raise UserError(f"--opts must be KEY VALUE pairs, found {len(options.opts)} words: {' '.join(options.opts)}.")
    for key in options.opts[::2]:
        if key in _OWN_OPTION:
            raise UserError(f"--opts sets {key}, wanted {_OWN_OPTION[key]} for that.  Use {_OWN_OPTION[key]}.")
    all_objects = ["TEST.SCORE_THRESHOLD", "0.0", "TEST.DETECTIONS_PER_IMAGE", "100"]
    if not options.weights:
        all_objects += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]  # Detectron2's own models
    cfg = setup_cfg(options.config_file, all_objects + options.opts, options.dataset)
    cfg.MODEL.WEIGHTS = options.weights
    cfg.MODEL.TIMM.PRETRAINED = False  # avoids a download; the weights are loaded afterwards or stay random
    cfg.MODEL.DEVICE = options.device
    if options.size and cfg.INPUT.FIXED_SIZE:
        cfg.INPUT.FIXED_SIZE = options.size
        cfg.INPUT.MULTI_SCALE = ()  # used only in training
    return cfg


def load_image(file: str, image_format: str) -> np.ndarray:
    """Read an image (H, W, 3), uint8, or make a synthetic one if there is no file.

    Raises:
        UserError: the file cannot be read as an image.
    """
    if not file:
        return np.random.default_rng(SEED).integers(0, 256, (*SYNTHETIC_SIZE, 3), dtype=np.uint8)
    try:
        return read_image(file, image_format)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UserError(f"{file} is no image that can be read: {one_line(error)}.  Change --input.") from error


def fit_image(image: np.ndarray, cfg: CfgNode, size: tuple[int, int] | None) -> np.ndarray:
    """Resize an image as the mapper of a test dataset does; models with a fixed size resize it themselves."""
    if cfg.INPUT.FIXED_SIZE:
        return image
    if size:
        resize = transforms.Resize(size)
    elif cfg.INPUT.MIN_SIZE_TEST:
        resize = transforms.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    else:
        return image
    return resize.get_transform(image).apply_image(image)


def to_tensor(image: np.ndarray) -> Tensor:
    """Convert an image (H, W, 3) to a tensor (3, H, W), uint8."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def compile_network(subject: Subject) -> None:
    """Compile the network with torch.compile, after fusing it in place if the config says so.

    Raises:
        UserError: the model is not one of this package, whose network can be compiled separately.
    """
    model = subject.model
    if not isinstance(model, InstanceSegmenter):
        raise UserError(f"--compile needs a model of insta_rtdetr, found {type(model).__name__}.  Remove --compile.")
    if model.fuse_on_eval:
        model.fuse()
    model.run_network = torch.compile(model.run_network)
    subject.is_compiled = True
