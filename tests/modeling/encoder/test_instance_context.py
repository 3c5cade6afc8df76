import pytest
import torch

from insta_rtdetr.modeling.encoder import build_encoder
from tests.modeling.encoder.test_ppm_fpn import SHAPES
from tests.tiny import tiny_sparseinst_config


def test_all_levels_reach_one_map_of_the_finest_size():
    encoder = build_encoder(tiny_sparseinst_config(), SHAPES)
    sides = {"res3": (10, 13), "res4": (5, 7), "res5": (3, 4)}  # no multiple of 32
    features = {name: torch.rand(2, SHAPES[name].channels, *size, requires_grad=True) for name, size in sides.items()}
    pyramid = encoder(features)
    assert [tuple(level.shape) for level in pyramid.levels] == [(2, 32, 10, 13)]
    assert pyramid.mask_features is pyramid.levels[0]
    pyramid.mask_features.sum().backward()
    assert all(level.grad.abs().sum() > 0 for level in features.values())


def test_a_missing_level_is_named():
    with pytest.raises(ValueError, match=r"lacks \['res5'\]"):
        build_encoder(tiny_sparseinst_config(), {name: SHAPES[name] for name in ("res3", "res4")})
