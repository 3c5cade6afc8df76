"""Number of masks that are processed at a time."""

import torch

# Number of pixels that are processed at a time: on a CPU, few enough to stay in its cache; on a GPU, to fit its memory.
CHUNK_PIXELS = 2**19
CHUNK_PIXELS_GPU = 2**27


def masks_at_a_time(height: int, width: int, device: torch.device) -> int:
    """Return how many masks of (height, width) pixels are processed at a time; at least 1."""
    budget = CHUNK_PIXELS if device.type == "cpu" else CHUNK_PIXELS_GPU
    return max(1, budget // (height * width))
