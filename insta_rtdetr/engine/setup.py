"""Building a config from a file, a dataset and the command line."""

import difflib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from fvcore.common.config import BASE_KEY

from insta_rtdetr.config import add_insta_rtdetr_config
from insta_rtdetr.data import FoundDataset, needs_masks
from insta_rtdetr.errors import UserError
from insta_rtdetr.plain_yaml import read_plain_yaml
from insta_rtdetr.zoo import find_config, resolve_weights

from .dataset_flag import use_dataset

_TRUSTED = Path(model_zoo.__file__).resolve().parent


def setup_cfg(config_file: str, overrides: list[str], dataset: str = "", announce: bool = True) -> CfgNode:
    """Build a config from the defaults, a yaml file, the user's dataset and KEY VALUE pairs, in this order.

    MODEL.WEIGHTS "published" and "backbone" are replaced by the file or address that they stand for; nothing is
    downloaded.

    Args:
        config_file: path or name, see `insta_rtdetr.zoo.find_config`; empty for the defaults.
        overrides: KEY, VALUE, ...
        dataset: path of the user's dataset, see `use_dataset`; empty for the datasets of the config.
        announce: whether a line about the dataset is written to stdout.

    Raises:
        UserError: the file is missing or not yaml, a key does not exist, a value has a wrong type, or MODEL.DEVICE is
            no device.
        DatasetError: see `insta_rtdetr.data.find_dataset`.
    """
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    if config_file:
        config_file = find_config(config_file)
        # Some configs of Detectron2's have a value that Python computes; all other files are plain.
        check_plain(config_file)
        _merge(cfg, lambda: cfg.merge_from_file(config_file), f"config file {config_file}")
    found = change_cfg(cfg, overrides, dataset, config_file)
    if found and announce:
        sys.stdout.write(found.summary() + "\n")
    return cfg


def check_plain(config_file: str, above: Sequence[str] = ()) -> None:
    """Check that a config file and those that it is based on are plain yaml; Detectron2's own are trusted.

    Args:
        config_file: the file.
        above: the files that are based on it.

    Raises:
        UserError: see `read_plain_yaml`; or a file is based on itself, holds no keys, or its _BASE_ does not exist.
    """
    if Path(config_file).resolve().is_relative_to(_TRUSTED):
        return
    if os.path.realpath(config_file) in above:
        raise UserError(f"Config file {config_file} is its own _BASE_.  Name another one.")
    try:
        text = Path(config_file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"Config file {config_file} cannot be read: {error}") from error
    content = read_plain_yaml(text, f"Config file {config_file}")
    if not isinstance(content, dict):
        raise UserError(f"Config file {config_file} holds a {type(content).__name__}, wanted config keys.")
    bases = content.get(BASE_KEY, [])
    for base in [bases] if isinstance(bases, str) else bases:
        file = os.path.join(os.path.dirname(config_file), os.path.expanduser(str(base)))
        if not os.path.isfile(file):
            raise UserError(f"In config file {config_file}: {base} (a _BASE_ file) not found.")
        check_plain(file, [*above, os.path.realpath(config_file)])


def change_cfg(
    cfg: CfgNode, overrides: list[str], dataset: str = "", config_file: str = "", origin: str = "command line"
) -> FoundDataset | None:
    """Set a config to the user's dataset, then to KEY VALUE pairs; see `setup_cfg`.

    Args:
        cfg: the config, which is changed.
        overrides: KEY, VALUE, ...
        dataset: path of the user's dataset; empty for none.
        config_file: path from `find_config`, for MODEL.WEIGHTS "published"; empty if there is none.
        origin: source of the pairs, for messages.

    Returns:
        the dataset, or None.

    Raises:
        UserError, DatasetError: see `setup_cfg`.
    """
    if len(overrides) % 2:
        words = " ".join(map(str, overrides))
        raise UserError(f"Overrides must be KEY VALUE pairs, found {len(overrides)} words: {words}")
    found = None
    if dataset:
        # The pairs override the keys that the dataset sets, but they also decide whether it needs masks.
        overridden = cfg.clone()
        _merge(overridden, lambda: overridden.merge_from_list(overrides), origin)
        found = use_dataset(cfg, dataset, needs_masks(overridden))
    _merge(cfg, lambda: cfg.merge_from_list(overrides), origin)
    cfg.MODEL.WEIGHTS = resolve_weights(cfg.MODEL.WEIGHTS, config_file, cfg)
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise UserError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, wanted cpu or cuda.") from error
    return found


def _merge(cfg: CfgNode, merge, origin: str) -> None:
    known = list(flat_values(cfg))
    try:
        merge()
    except FileNotFoundError as error:
        raise UserError(f"In {origin}: {error.filename} (a _BASE_ file) not found.") from error
    except yaml.YAMLError as error:
        raise UserError(f"In {origin}: not valid yaml: {error}") from error
    except (KeyError, AssertionError) as error:
        raise UserError(f"In {origin}: {_explain_key(str(error), known)}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"In {origin}: {_explain_value(str(error))}") from error


def _explain_value(message: str) -> str:
    """Rewrite yacs's "Type mismatch (<class 'int'> vs. <class 'str'>) with values (2 vs. many) for config key: KEY"."""
    types, values = r"\(<class '(\w+)'> vs\. <class '(\w+)'>\)", r"\((.*) vs\. (.*)\)"
    pattern = rf"Type mismatch {types} with values {values} for config key: (\S+)"
    if mismatch := re.search(pattern, message, flags=re.DOTALL):
        wanted, found, example, value, key = mismatch.groups()
        return f"{key} is {value} ({found}), wanted a value of type {wanted} such as {example}."
    return message


def flat_values(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Return full key -> value, such as "SOLVER.BASE_LR" -> 0.001, of a config; sections are among the values."""
    values = {}
    for name, value in node.items():
        values[prefix + name] = value
        if isinstance(value, CfgNode):
            values |= flat_values(value, f"{prefix}{name}.")
    return values


def _explain_key(message: str, known: list[str]) -> str:
    """Rewrite yacs's "Non-existent (config) key: KEY", and add the nearest key that exists."""
    message = message.strip("'\"")
    head, _, key = message.rpartition(": ")
    if "xistent" not in head:
        return message
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
    return f"there is no config key {key}.  The nearest is {nearest}; all are in insta_rtdetr/config.py."
