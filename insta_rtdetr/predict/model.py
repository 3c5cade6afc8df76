"""Model of a config that is ready to predict."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import nn

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.data import config_class_names
from insta_rtdetr.engine import TrainingResult, fine_tune
from insta_rtdetr.errors import config_errors
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from insta_rtdetr.views.augmentation import Augmentation, augmentation_of_config
from insta_rtdetr.views.finder import Finder, mask_form

from .categories import categories_of
from .precision import use_precision
from .predictor import Predictor, above


class Model(Predictor):
    """Network with its weights and class names, as `create_model` makes it.

    Attributes:
        cfg: the config.
        module: the Detectron2 meta-architecture, in eval mode.
        categories: names and COCO ids of its classes.
        precision: what backbone and encoder are computed in, see `use_precision`.
    """

    def __init__(self, cfg: CfgNode, precision: str = "fp32") -> None:
        """Build the model of a config and load MODEL.WEIGHTS.

        Without a CUDA device the model computes on CPU, whatever MODEL.DEVICE says.

        Args:
            cfg: the config.
            precision: see `use_precision`.

        Raises:
            UserError: the config's values give no model, or the precision is wrong.
            CheckpointError: the weights are missing or do not fit.
        """
        self.cfg = cfg.clone()
        self.cfg.defrost()
        if self.cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
            self.cfg.MODEL.DEVICE = "cpu"
        self.module = build_module(self.cfg)
        checkpointer = Checkpointer(self.module, class_names=config_class_names(self.cfg))
        rest_of_checkpoint = checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
        self.categories = categories_of(self.cfg, rest_of_checkpoint.get("class_names", []))
        self.precision = use_precision(self.module, precision)
        self._finder = Finder(self.cfg, self.module)

    def train(
        self, dataset: str | os.PathLike, epochs: int = 50, output: str | os.PathLike = "", resume: bool = False,
        opts: Sequence[object] = (),
    ) -> TrainingResult:  # fmt: skip
        """Fine-tune the model on a dataset, as `train_net.py --dataset` does; this object stays as it is.

            result = create_model("insta_rtdetr_R50vd_D6_640").train("path/to/data", output="output/mine")
            model = create_model(result.checkpoint)

        Args:
            dataset: folder or file of any layout in datasets/README.md; heads of classes that the model has by name
                are kept.
            epochs: passes over the dataset.
            output: folder of the run; default: OUTPUT_DIR of the config.
            resume: whether to go on with the run in that folder.
            opts: KEY, value, ... of config keys to change.

        Returns:
            the best checkpoint and its metrics.
        Raises:
            UserError: the dataset, a key or the folder cannot be used.
        """
        return fine_tune(self.cfg, os.fspath(dataset), epochs, os.fspath(output), resume, list(opts))

    def find(self, images: list[np.ndarray], threshold: float, short_side: int = 0) -> list[Instances]:
        """Find objects in images; see `Predictor.find`."""
        set_score_threshold(self.module, threshold)
        with mask_form(self.module, self.masks_as_rle):
            return [above(instances, threshold) for instances in self._finder(images, short_side)]

    @property
    def augmentation(self) -> Augmentation:
        """Return the views of TEST.AUG; see `Predictor.augmentation`."""
        return augmentation_of_config(self.cfg)


def build_module(cfg: CfgNode) -> nn.Module:
    """Build the meta-architecture of a config, in eval mode, without weights.

    Raises:
        UserError: the config's values give no model.
    """
    with config_errors("model"):
        return build_model(cfg).eval()


def set_score_threshold(module: nn.Module, threshold: float) -> None:
    """Make a model leave out objects with a lower score, for which it then computes no masks."""
    if isinstance(module, InstanceSegmenter):
        module.postprocessor.score_threshold = threshold
    for part in module.modules():
        if isinstance(part, FastRCNNOutputLayers):
            part.test_score_thresh = threshold
