"""Prediction with trained models, step 9 of the data flow: images -> results.

    for result in create_model("quickstart_MNV2_D3_256").predict("photo.jpg"):
        result.print()
"""

from .create import create_model
from .exported import ExportedModel
from .model import Model
from .result import Result

__all__ = ["ExportedModel", "Model", "Result", "create_model"]
