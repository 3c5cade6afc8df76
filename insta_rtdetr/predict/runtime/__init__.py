"""Running files that `tools/export.py` wrote, with ONNX Runtime, OpenVINO or PyTorch.

metadata (what the file says of itself) -> session (loads and runs it; split: OpenVINO models in two precisions)
"""

from .metadata import Metadata
from .session import ENDINGS, Session, is_exported, open_session

__all__ = ["ENDINGS", "Metadata", "Session", "is_exported", "open_session"]
