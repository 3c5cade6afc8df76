"""Several views of one image: overlapping tiles of a large image, or flipped and rescaled copies of any image.

Each view goes through the model on its own, and what the views show of one object is merged by its masks.
"""

from .finder import Finder
from .tiling import Tiling, find_in_tiles
from .viewed import with_views

__all__ = ["Finder", "Tiling", "find_in_tiles", "with_views"]
