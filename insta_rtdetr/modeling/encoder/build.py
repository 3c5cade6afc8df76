"""The registry of encoders, and checks that several encoders share."""

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

ENCODER_REGISTRY = Registry("ENCODER")
ENCODER_REGISTRY.__doc__ = "Encoders: called with (cfg, input_shape), they turn backbone features into a `Pyramid`."


# Stride of the mask features in pixels -> the backbone level that they are made from.
MASK_SOURCE = {2: "res1", 4: "res2", 8: "res3"}


def build_encoder(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the encoder MODEL.ENCODER.NAME for a backbone's `output_shape()`."""
    return ENCODER_REGISTRY.get(cfg.MODEL.ENCODER.NAME)(cfg, input_shape)


def mask_source_of(cfg) -> str:
    """Return the name of the backbone level with the stride MODEL.MASK_HEAD.STRIDE.

    Raises:
        ValueError: `MASK_SOURCE` has no such stride.
    """
    stride = cfg.MODEL.MASK_HEAD.STRIDE
    if stride not in MASK_SOURCE:
        raise ValueError(f"MODEL.MASK_HEAD.STRIDE must be 2, 4 or 8, got {stride}.")
    return MASK_SOURCE[stride]


def check_levels(input_shape: dict[str, ShapeSpec], needed: list[str]) -> None:
    """Check that a backbone has the needed levels.

    Raises:
        ValueError: it lacks one.
    """
    if missing := sorted(set(needed) - set(input_shape)):
        raise ValueError(
            f"the encoder needs the levels {sorted(set(needed))}, but the backbone lacks {missing}. "
            "Change the backbone's OUT_FEATURES, MODEL.ENCODER.IN_FEATURES or MODEL.MASK_HEAD.STRIDE."
        )


def check_heads(dim: int, num_heads: int) -> None:
    """Check that the number of attention heads divides the encoder's width.

    Raises:
        ValueError: it does not, or one of the two is not positive.
    """
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise ValueError(
            f"MODEL.ENCODER.HIDDEN_DIM, {dim}, must be a multiple of MODEL.ENCODER.NUM_HEADS, which is {num_heads}."
        )
