"""Reading and writing weights: our checkpoints, the original's, and backbones."""

from .checkpointer import Checkpointer
from .formats import CheckpointError, read_checkpoint

__all__ = ["CheckpointError", "Checkpointer", "read_checkpoint"]
