import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec

from insta_rtdetr.modeling.encoder import build_encoder
from insta_rtdetr.modeling.encoder.ppm_fpn import PyramidPooling
from tests.tiny import tiny_fastinst_config

SHAPES = {f"res{i}": ShapeSpec(channels=8 * i, stride=2**i) for i in (3, 4, 5)}


def test_levels_keep_their_size_and_masks_are_read_from_the_finest():
    encoder = build_encoder(tiny_fastinst_config(), SHAPES)
    sides = {"res3": (10, 13), "res4": (5, 7), "res5": (3, 4)}  # of an input whose sides are no multiples of 32
    pyramid = encoder({name: torch.rand(2, SHAPES[name].channels, *size) for name, size in sides.items()})
    assert [tuple(level.shape) for level in pyramid.levels] == [(2, 32, *size) for size in sides.values()]
    assert pyramid.mask_features is pyramid.levels[0]


def test_pooling_gives_every_position_the_mean_of_the_map():
    pooling = PyramidPooling(4).double()
    x = torch.rand(1, 4, 6, 6).double()
    # The output is the pooled grid of one cell alone, unchanged.
    for projection in pooling.projections:
        torch.nn.init.ones_(projection.weight)
        torch.nn.init.zeros_(projection.bias)
    torch.nn.init.zeros_(pooling.fusion.weight)
    torch.nn.init.zeros_(pooling.fusion.bias)
    pooling.fusion.weight.data[0, 0] = 1.0
    expected = torch.zeros_like(x)
    expected[:, 0] = F.relu(x.sum(1).mean())
    torch.testing.assert_close(pooling(x), expected)


def test_a_missing_level_is_named():
    with pytest.raises(ValueError, match=r"lacks \['res5'\]"):
        build_encoder(tiny_fastinst_config(), {name: SHAPES[name] for name in ("res3", "res4")})
