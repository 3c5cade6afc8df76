"""Step 3: backbone features -> pyramid of one width and the mask features."""

from .build import ENCODER_REGISTRY, build_encoder
from .hybrid import HybridEncoder, MaskHybridEncoder
from .ppm_fpn import PPMFPNEncoder

__all__ = ["ENCODER_REGISTRY", "HybridEncoder", "MaskHybridEncoder", "PPMFPNEncoder", "build_encoder"]
