"""Running exported files with ONNX Runtime, OpenVINO or PyTorch.

metadata (stored in the file) -> session (loads and runs it) -> split (OpenVINO models in two precisions)
"""

from .metadata import Metadata
from .session import ENDINGS, Session, is_exported, open_session

__all__ = ["ENDINGS", "Metadata", "Session", "is_exported", "open_session"]
