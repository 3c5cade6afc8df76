"""Step 4: pyramid -> queries -> classes, boxes and masks, one `Prediction` for each layer."""

from .deformable_decoder import DeformableDecoder
from .denoising import Denoising
from .level_projection import LevelProjection
from .mask_head import MaskHead
from .query_selection import QuerySelection

__all__ = ["DeformableDecoder", "Denoising", "LevelProjection", "MaskHead", "QuerySelection"]
