"""Models by name: the configs of this package and their weights, and Detectron2's model zoo."""

from .cache import fetch, is_cached
from .configs import config_files, find_config
from .published import PREFIX, PublishedFile, configs_without_weights, find_published, published_files
from .weights import backbone_name, backbone_weights, published_weights, resolve_weights

__all__ = [
    "PREFIX",
    "PublishedFile",
    "backbone_name",
    "backbone_weights",
    "config_files",
    "configs_without_weights",
    "fetch",
    "find_config",
    "find_published",
    "is_cached",
    "published_files",
    "published_weights",
    "resolve_weights",
]
