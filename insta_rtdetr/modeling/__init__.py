"""The networks, in packages that follow the order of the forward pass.

backbone -> encoder -> head -> loss (training) or postprocessing (inference).  meta_arch assembles them.
"""

from . import backbone, encoder, head, loss, meta_arch, postprocessing

__all__ = ["backbone", "encoder", "head", "loss", "meta_arch", "postprocessing"]
