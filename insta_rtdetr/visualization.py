"""Predict one picture and draw what was found: what demo.py and quickstart.py share.

    predictor = Predictor(cfg)
    image = read_picture("street.jpg")
    found = above(predictor(image)["instances"], 0.5)
    write_picture(draw(image, found, predictor.metadata), "found.png")

Pictures are uint8 (H, W, 3); channels are in the order BGR where Detectron2's predictors want it, RGB when drawn.
"""

import os
from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from PIL import Image, UnidentifiedImageError

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.data.class_names import config_class_names, num_classes
from insta_rtdetr.engine.errors import config_errors

# What Pillow raises for a file that is no picture, is cut short, is broken inside, or would fill the memory.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Predictor(DefaultPredictor):
    """Detectron2's DefaultPredictor (one BGR picture in, its result out) for every model and checkpoint we read.

    Without a CUDA device it computes on CPU, whatever MODEL.DEVICE says.

    Attributes:
        metadata: the class names, see class_metadata.
    """

    # DefaultPredictor's own __init__ would read the weights with Detectron2's checkpointer, which knows fewer formats.
    def __init__(self, cfg: CfgNode) -> None:
        """Build the model of a config and load MODEL.WEIGHTS.

        Raises:
            UserError: the config's values give no model.
            CheckpointError: the weights are missing or do not fit.
        """
        self.cfg = cfg.clone()
        self.cfg.defrost()
        if self.cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
            self.cfg.MODEL.DEVICE = "cpu"
        with config_errors("model"):
            self.model = build_model(self.cfg).eval()
        checkpointer = Checkpointer(self.model, class_names=config_class_names(cfg))
        self.metadata = class_metadata(cfg, checkpointer.load(cfg.MODEL.WEIGHTS, checkpointables=[]))
        self.aug = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT


def class_metadata(cfg: CfgNode, checkpoint: dict[str, Any]) -> Metadata:
    """Class names for drawing.

    Those of the config's datasets if they are known here and as many as the model's classes; else those that the
    checkpoint names; else COCO's for 80 classes; else none, and the classes are drawn as numbers.
    """
    coco = MetadataCatalog.get("coco_2017_val").thing_classes
    for names in (config_class_names(cfg), checkpoint.get("class_names", []), coco):
        if len(names) == num_classes(cfg):
            return Metadata(thing_classes=list(names))
    return Metadata()


class PictureError(ValueError):
    """A file that is no picture, or a broken one.  The message names it."""


def read_picture(file: str | os.PathLike) -> np.ndarray:
    """Read a picture as Detectron2 does, upright as its EXIF data says; BGR.

    Raises:
        PictureError: it cannot be read.
    """
    try:
        return read_image(os.fspath(file), format="BGR")
    except UnidentifiedImageError as error:
        # Its own message names no file, but Python's buffer.
        raise PictureError(f"{file} cannot be read: it is no picture, or of an unknown format") from error
    except UNREADABLE as error:
        raise PictureError(f"{file} cannot be read: {error}") from error


def above(instances: Instances, threshold: float) -> Instances:
    """The objects of at least this score, on CPU."""
    instances = instances.to("cpu")
    return instances[instances.scores >= threshold]


def draw(image_bgr: np.ndarray, instances: Instances, metadata: Metadata, scale: float = 1.0) -> np.ndarray:
    """Draw masks, boxes, class names and scores over a picture.

    Args:
        scale: of the drawing; small pictures are easier to read enlarged.

    Returns:
        RGB.
    """
    visualizer = Visualizer(np.ascontiguousarray(image_bgr[:, :, ::-1]), metadata, scale=scale)
    return visualizer.draw_instance_predictions(instances).get_image()


def write_picture(image_rgb: np.ndarray, file: str | os.PathLike) -> None:
    """Write a picture, in the format of the file's ending, all of it or nothing."""
    file = Path(file)
    temporary = file.with_name(f".{file.stem}.unfinished-{os.getpid()}{file.suffix}")
    try:
        Image.fromarray(image_rgb).save(temporary)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
