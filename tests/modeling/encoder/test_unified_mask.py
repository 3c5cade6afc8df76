import pytest
import torch
from detectron2.layers import ShapeSpec

from insta_rtdetr.modeling.encoder import build_encoder
from tests.tiny import tiny_solov2_config

SHAPES = {f"p{i}": ShapeSpec(channels=32, stride=2**i) for i in range(2, 7)}


def test_mask_features_have_the_size_of_the_finest_level():
    encoder = build_encoder(tiny_solov2_config(), SHAPES)
    features = {name: torch.randn(2, 32, 64 // spec.stride, 128 // spec.stride) for name, spec in SHAPES.items()}
    pyramid = encoder(features)
    assert pyramid.mask_features.shape == (2, 32, 16, 32) and (pyramid.mask_features >= 0).all()
    assert all(level is features[name] for level, name in zip(pyramid.levels, SHAPES, strict=True))
    assert [len(level.convs) for level in encoder.levels] == [1, 1, 2, 3]
    # The coarsest level is no part of them.
    assert torch.equal(encoder(features | {"p6": features["p6"] + 1}).mask_features, pyramid.mask_features)


def test_a_missing_level_is_named():
    with pytest.raises(ValueError, match="lacks \\['p6'\\]"):
        build_encoder(tiny_solov2_config(), {name: spec for name, spec in SHAPES.items() if name != "p6"})
