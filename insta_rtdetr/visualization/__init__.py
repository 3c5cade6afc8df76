"""Reading and writing images, and drawing objects over them.  Images are uint8 (H, W, 3), RGB."""

from .colors import Color, ColorMemory, assign_colors, spread_color
from .drawing import Objects, draw_objects
from .image_io import read_image, write_image
from .labels import draw_labels, font
from .masks import MaskCrop, paint

__all__ = [
    "Color",
    "ColorMemory",
    "MaskCrop",
    "Objects",
    "assign_colors",
    "draw_labels",
    "draw_objects",
    "font",
    "paint",
    "read_image",
    "spread_color",
    "write_image",
]
