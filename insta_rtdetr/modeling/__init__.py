"""The network.  The packages in the order of the forward pass are

backbone -> encoder -> head -> loss (training) or postprocessing (inference); meta_arch puts them together.
"""

from . import backbone, encoder, head, loss, meta_arch, postprocessing

__all__ = ["backbone", "encoder", "head", "loss", "meta_arch", "postprocessing"]
