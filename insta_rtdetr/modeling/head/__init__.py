"""Step 4: pyramid -> queries -> classes, boxes and masks, one `Prediction` for each layer."""

from .deformable_decoder import DeformableDecoder
from .denoising import Denoising
from .dual_path_decoder import DualPathDecoder
from .level_projection import LevelProjection
from .mask_head import MaskHead, QueryMaskHead
from .query_proposal import QueryProposal
from .query_selection import QuerySelection

__all__ = [
    "DeformableDecoder",
    "Denoising",
    "DualPathDecoder",
    "LevelProjection",
    "MaskHead",
    "QueryMaskHead",
    "QueryProposal",
    "QuerySelection",
]
