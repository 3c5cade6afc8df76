"""Creating a model with its weights, given the model's name."""

import os
import tempfile
from pathlib import Path

from detectron2.config import CfgNode

from insta_rtdetr.checkpoint import read_checkpoint
from insta_rtdetr.engine.setup import setup_cfg
from insta_rtdetr.errors import UserError
from insta_rtdetr.predict.runtime.session import is_exported
from insta_rtdetr.zoo import config_files, find_config, published_weights, resolve_weights

from .exported import ExportedModel
from .model import Model
from .predictor import Predictor

CHECKPOINT_ENDINGS = (".pth", ".pkl")
# Addresses of the weights that Detectron2's configs start training from: backbones alone, which cannot find objects.
_BACKBONES_ONLY = "ImageNetPretrained"


def create_model(
    model: str | os.PathLike | CfgNode, weights: str | os.PathLike = "", device: str = "",
    opts: list[str] | None = None, precision: str = "",
) -> Predictor:  # fmt: skip
    """Build a model and load its weights, for every instance-segmentation model of this package and of Detectron2.

    Args:
        model: a config's name ("insta_rtdetr_R50vd_D6_640"; "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x" of
            Detectron2's model zoo), a yaml file, a config; or a checkpoint that says which config it was trained with,
            or that is named after one; or what `tools/export.py` made, which has its weights and settings within.
        weights: a checkpoint of any format we read, its address, or "published://NAME" for a name that
            `insta-rtdetr models --all` lists.  Default: those published with the config, which are downloaded
            once, else MODEL.WEIGHTS of the config.
        device: "cpu" or "cuda".  Default: MODEL.DEVICE of the config; CPU where there is no GPU.
        opts: KEY, value, ... of config keys to change.
        precision: "fp32" (the default), or "bf16", in which backbone and encoder take about half the time on
            processors with AVX-512 BF16 or AMX; on others it is float32, with a warning.  An exported file has its own.

    Raises:
        UserError, CheckpointError: the model, the weights, the device or a key is missing or wrong.
    """
    if is_exported(model):
        return exported_model(model, weights, device, opts or [], precision)
    cfg = model_config(model, weights, [*(opts or []), *(["MODEL.DEVICE", device] if device else [])])
    return Model(cfg, precision or "fp32")


def exported_model(
    file: str | os.PathLike, weights: str | os.PathLike, device: str, opts: list[str], precision: str = ""
) -> ExportedModel:
    """Load an exported file as a model.

    Raises:
        UserError: it cannot be loaded, or weights, config keys or a precision are given although the file has its own.
    """
    given = {"weights": weights, "config keys": " ".join(opts), "precision": precision}
    for what, value in given.items():
        if value:
            raise UserError(
                f"{file} has its weights and settings within, got {what} {value}.  Leave them out, or export anew."
            )
    return ExportedModel(file, device)


def model_config(
    model: str | os.PathLike | CfgNode, weights: str | os.PathLike, opts: list[str], dataset: str = ""
) -> CfgNode:
    """Return the config of a model, with MODEL.WEIGHTS set; other arguments and errors are those of `create_model`.

    Args:
        dataset: path of the user's dataset, whose classes a model given by its config's name gets; see `setup_cfg`.
    """
    config_file = published = ""
    if isinstance(model, CfgNode):
        cfg = model.clone()
        cfg.merge_from_list(opts)
    elif not isinstance(model, (str, os.PathLike)):
        raise UserError(f"model is a {type(model).__name__}, wanted a name, a path or a config.")
    elif os.fspath(model).endswith(CHECKPOINT_ENDINGS):
        if weights:
            raise UserError(f"model {model} and weights {weights} are both checkpoints.  Leave one out.")
        cfg, published = _config_of_checkpoint(os.fspath(model), opts, dataset), os.fspath(model)
    else:
        config_file = find_config(os.fspath(model))
        cfg, published = setup_cfg(config_file, opts, dataset), published_weights(config_file)
    if "MODEL.WEIGHTS" not in opts[::2]:
        cfg.MODEL.WEIGHTS = resolve_weights(os.fspath(weights), config_file) or published or cfg.MODEL.WEIGHTS
    if not cfg.MODEL.WEIGHTS or _BACKBONES_ONLY in cfg.MODEL.WEIGHTS:
        name = "this config" if isinstance(model, CfgNode) else model
        raise UserError(f"There are no trained weights for {name} here.  Name a checkpoint as weights (MODEL.WEIGHTS).")
    return cfg


def _config_of_checkpoint(file: str, opts: list[str], dataset: str) -> CfgNode:
    """Return the config in a checkpoint, or the config that the checkpoint is named after.

    Raises:
        UserError: there is neither.
    """
    config = read_checkpoint(file).get("config")
    if isinstance(config, str):
        with tempfile.TemporaryDirectory() as folder:
            config_file = Path(folder) / f"{Path(file).stem}.yaml"
            config_file.write_text(config)
            return setup_cfg(str(config_file), opts, dataset)
    if Path(file).stem in config_files():
        return setup_cfg(find_config(Path(file).stem), opts, dataset)
    raise UserError(
        f"{file} does not say which model it is of.  Name the config too: create_model(config, weights={file!r})."
    )
