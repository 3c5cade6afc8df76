"""The registry of encoders."""

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

ENCODER_REGISTRY = Registry("ENCODER")
ENCODER_REGISTRY.__doc__ = "Encoders: called with (cfg, input_shape), they turn backbone features into a `Pyramid`."


# The backbone level that mask features of a stride, in pixels, are made from.
MASK_SOURCE = {2: "res1", 4: "res2", 8: "res3"}


def build_encoder(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the encoder MODEL.ENCODER.NAME for a backbone's `output_shape()`."""
    return ENCODER_REGISTRY.get(cfg.MODEL.ENCODER.NAME)(cfg, input_shape)


def mask_source_of(cfg) -> str:
    """The name of the backbone level with the stride MODEL.MASK_HEAD.STRIDE.

    Raises:
        ValueError: the stride is none of `MASK_SOURCE`.
    """
    stride = cfg.MODEL.MASK_HEAD.STRIDE
    if stride not in MASK_SOURCE:
        raise ValueError(f"MODEL.MASK_HEAD.STRIDE must be 2, 4 or 8, got {stride}.")
    return MASK_SOURCE[stride]


def check_levels(input_shape: dict[str, ShapeSpec], needed: list[str]) -> None:
    """Refuse a backbone that lacks a level.

    Raises:
        ValueError: it does.
    """
    if missing := sorted(set(needed) - set(input_shape)):
        raise ValueError(
            f"the encoder needs the levels {sorted(set(needed))}, but the backbone lacks {missing}. "
            "Change the backbone's OUT_FEATURES, MODEL.ENCODER.IN_FEATURES or MODEL.MASK_HEAD.STRIDE."
        )


def check_heads(dim: int, num_heads: int) -> None:
    """Refuse heads that do not divide a width.

    Raises:
        ValueError: they do not.
    """
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise ValueError(
            f"MODEL.ENCODER.HIDDEN_DIM, {dim}, must be a multiple of MODEL.ENCODER.NUM_HEADS, which is {num_heads}."
        )
