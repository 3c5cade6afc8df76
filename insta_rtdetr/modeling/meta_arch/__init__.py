"""Step 6: one file for each model."""

from .base import InstanceSegmenter
from .insta_rtdetr import InstaRTDETR

__all__ = ["InstaRTDETR", "InstanceSegmenter"]
