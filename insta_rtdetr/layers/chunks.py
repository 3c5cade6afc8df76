"""How many masks are worked on at a time."""

import torch

# Pixels: few enough to stay in a processor's cache; on a GPU, to fit its memory.
CHUNK_PIXELS = 2**19
CHUNK_PIXELS_GPU = 2**27


def masks_at_a_time(height: int, width: int, device: torch.device) -> int:
    """A number of masks of that size, in pixels; at least 1."""
    budget = CHUNK_PIXELS if device.type == "cpu" else CHUNK_PIXELS_GPU
    return max(1, budget // (height * width))
