"""Step 4: pyramid -> queries -> classes, boxes and masks, one `Prediction` for each layer."""

from .deformable_decoder import DeformableDecoder
from .denoising import Denoising
from .depthwise_mask_head import DepthwiseMaskHead
from .dual_path_decoder import DualPathDecoder
from .grouped_decoder import GroupedDecoder
from .grouped_query_selection import GroupedQuerySelection
from .level_projection import LevelProjection
from .mask_head import MaskHead, QueryMaskHead
from .query_proposal import QueryProposal
from .query_selection import QuerySelection

__all__ = [
    "DeformableDecoder",
    "Denoising",
    "DepthwiseMaskHead",
    "DualPathDecoder",
    "GroupedDecoder",
    "GroupedQuerySelection",
    "LevelProjection",
    "MaskHead",
    "QueryMaskHead",
    "QueryProposal",
    "QuerySelection",
]
