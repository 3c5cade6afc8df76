"""Several views of one image: overlapping tiles of a large image, or flipped and rescaled copies of any image.

Each view goes through the model on its own, and what the views show of one object is merged by its masks.
"""

from .augmentation import Augmentation, augmentation_of_config, find_in_views
from .finder import Finder
from .tiling import Tiling, find_in_tiles
from .viewed import Views, views_of_config, with_views

__all__ = [
    "Augmentation", "Finder", "Tiling", "Views", "augmentation_of_config", "find_in_tiles", "find_in_views",
    "views_of_config", "with_views",
]  # fmt: skip
