import pytest
import torch
from detectron2.layers import ShapeSpec

from insta_rtdetr.modeling.encoder import build_encoder
from tests.tiny import tiny_config, tiny_mask_rtdetr_config

SHAPES = {f"res{i}": ShapeSpec(channels=8 * i, stride=2**i) for i in (2, 3, 4, 5)}


def features(height, width, names=tuple(SHAPES)):
    return {n: torch.rand(2, SHAPES[n].channels, height // SHAPES[n].stride, width // SHAPES[n].stride) for n in names}


@pytest.mark.parametrize(("stride", "mask_dim"), [(4, 16), (8, 16), (4, 32)])
def test_levels_keep_their_size_and_masks_have_their_stride(stride, mask_dim):
    encoder = build_encoder(tiny_config("MODEL.MASK_HEAD.STRIDE", stride, "MODEL.MASK_HEAD.DIM", mask_dim), SHAPES)
    pyramid = encoder(features(64, 96))
    assert [tuple(level.shape) for level in pyramid.levels] == [(2, 32, 8, 12), (2, 32, 4, 6), (2, 32, 2, 3)]
    assert pyramid.mask_features.shape == (2, mask_dim, 64 // stride, 96 // stride)


def test_sides_that_are_no_multiple_of_32_work():
    encoder = build_encoder(tiny_config(), SHAPES)
    sides = {"res2": 19, "res3": 10, "res4": 5, "res5": 3}
    pyramid = encoder({n: torch.rand(1, SHAPES[n].channels, s, s) for n, s in sides.items()})
    assert [level.shape[-1] for level in pyramid.levels] == [10, 5, 3]


def test_stride_8_masks_need_no_stride_4_features():
    shapes = {name: SHAPES[name] for name in ("res3", "res4", "res5")}
    encoder = build_encoder(tiny_config("MODEL.MASK_HEAD.STRIDE", 8), shapes)
    encoder(features(64, 64, tuple(shapes)))
    with pytest.raises(ValueError, match=r"lacks \['res2'\]"):
        build_encoder(tiny_config("MODEL.MASK_HEAD.STRIDE", 4), shapes)


def test_another_mask_stride_is_refused():
    with pytest.raises(ValueError, match=r"MODEL.MASK_HEAD.STRIDE must be 2, 4 or 8, got 16"):
        build_encoder(tiny_config("MODEL.MASK_HEAD.STRIDE", 16), SHAPES)


@pytest.mark.parametrize("stride", [4, 8])
def test_mask_pyramid_has_the_stride_and_width_of_its_config(stride):
    encoder = build_encoder(tiny_mask_rtdetr_config("MODEL.MASK_HEAD.STRIDE", stride), SHAPES)
    pyramid = encoder(features(64, 96))
    assert [tuple(level.shape) for level in pyramid.levels] == [(2, 32, 8, 12), (2, 32, 4, 6), (2, 32, 2, 3)]
    assert pyramid.mask_features.shape == (2, 8, 64 // stride, 96 // stride)


def test_attention_is_where_the_config_says():
    for feature, level in (("", 2), ("res4", 1), ("res3", 0)):
        assert build_encoder(tiny_config("MODEL.ENCODER.AIFI_FEATURE", feature), SHAPES).aifi_level == level
    with pytest.raises(ValueError, match=r"MODEL.ENCODER.AIFI_FEATURE must be among .* got 'res2'"):
        build_encoder(tiny_config("MODEL.ENCODER.AIFI_FEATURE", "res2"), SHAPES)
