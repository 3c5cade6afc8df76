"""Reading and writing weights: our checkpoints, those of the original codes, and backbones."""

from .checkpointer import Checkpointer
from .formats import read_checkpoint

__all__ = ["Checkpointer", "read_checkpoint"]
