"""Step 4: pyramid -> queries -> classes, boxes and masks, as one `Prediction` for each decoder layer."""

from .box_prior import BoxPrior
from .deformable_decoder import DeformableDecoder
from .denoising import Denoising
from .depthwise_mask_head import DepthwiseMaskHead
from .dual_path_decoder import DualPathDecoder
from .grid_head import GridHead
from .grid_selection import GridSelection
from .grouped_decoder import GroupedDecoder
from .grouped_query_selection import GroupedQuerySelection
from .instance_activation import InstanceActivationDecoder
from .level_projection import LevelProjection
from .mask_head import MaskHead, PrototypeMaskHead, QueryMaskHead
from .mask_query_selection import MaskQuerySelection
from .maskdino_decoder import MaskDINODecoder
from .query_proposal import QueryProposal
from .query_selection import QuerySelection
from .shared_head_decoder import SharedHeadDecoder
from .task_aligned import TaskAlignedHead

__all__ = [
    "BoxPrior",
    "DeformableDecoder",
    "Denoising",
    "DepthwiseMaskHead",
    "DualPathDecoder",
    "GridHead",
    "GridSelection",
    "GroupedDecoder",
    "GroupedQuerySelection",
    "InstanceActivationDecoder",
    "LevelProjection",
    "MaskDINODecoder",
    "MaskHead",
    "MaskQuerySelection",
    "PrototypeMaskHead",
    "QueryMaskHead",
    "QueryProposal",
    "QuerySelection",
    "SharedHeadDecoder",
    "TaskAlignedHead",
]
