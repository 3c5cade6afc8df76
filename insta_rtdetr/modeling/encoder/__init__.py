"""Step 3: backbone features -> feature pyramid with the same channels at all levels, and mask features."""

from .build import ENCODER_REGISTRY, build_encoder
from .c2f_projector import C2fProjector
from .csp_pan import CSPPANEncoder
from .deformable import DeformableEncoder
from .hybrid import HybridEncoder, MaskHybridEncoder
from .instance_context import InstanceContextEncoder
from .ppm_fpn import PPMFPNEncoder
from .unified_mask import UnifiedMaskEncoder

__all__ = [
    "ENCODER_REGISTRY",
    "C2fProjector",
    "CSPPANEncoder",
    "DeformableEncoder",
    "HybridEncoder",
    "InstanceContextEncoder",
    "MaskHybridEncoder",
    "PPMFPNEncoder",
    "UnifiedMaskEncoder",
    "build_encoder",
]
