"""Reading and writing weights: our checkpoints, those of the original codes, and backbones."""

from . import published  # noqa: F401  (registers a path handler)
from .checkpointer import Checkpointer
from .formats import read_checkpoint

__all__ = ["Checkpointer", "read_checkpoint"]
