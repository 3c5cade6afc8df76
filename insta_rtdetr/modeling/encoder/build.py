"""The registry of encoders."""

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

ENCODER_REGISTRY = Registry("ENCODER")
ENCODER_REGISTRY.__doc__ = "Encoders: called with (cfg, input_shape), they turn backbone features into a `Pyramid`."


def build_encoder(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the encoder MODEL.ENCODER.NAME for a backbone's `output_shape()`."""
    return ENCODER_REGISTRY.get(cfg.MODEL.ENCODER.NAME)(cfg, input_shape)
