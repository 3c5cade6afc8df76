"""How fast a model is: image -> Instances -> COCO RLE, end to end and by stage.  `tools/benchmark.py` runs it."""

from .rle import encode_masks, encode_strip

__all__ = ["encode_masks", "encode_strip"]
