"""A trained model as one file for ONNX Runtime, OpenVINO, TensorRT or `torch.export.load`; what `tools/export.py` runs.

options -> network (traced) -> formats (files) -> session (runs them) -> parity (the same objects as before?)
"""

from .metadata import Metadata
from .session import ENDINGS, Session, is_exported

__all__ = ["ENDINGS", "Metadata", "Session", "is_exported"]
