"""Step 3: backbone features -> pyramid of one width and the mask features."""

from .build import ENCODER_REGISTRY, build_encoder
from .hybrid import HybridEncoder
from .ppm_fpn import PPMFPNEncoder

__all__ = ["ENCODER_REGISTRY", "HybridEncoder", "PPMFPNEncoder", "build_encoder"]
