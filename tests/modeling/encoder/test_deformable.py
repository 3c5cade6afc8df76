import pytest
import torch
from detectron2.layers import ShapeSpec

from insta_rtdetr.modeling.encoder import build_encoder
from insta_rtdetr.modeling.encoder.deformable import _reference_boxes
from tests.tiny import tiny_maskdino_config

SHAPES = {f"res{i}": ShapeSpec(channels=8 * i, stride=2**i) for i in (2, 3, 4, 5)}
# The sizes of an input whose sides are not multiples of 32.
SIDES = {"res2": (19, 26), "res3": (10, 13), "res4": (5, 7), "res5": (3, 4)}


def features(batch=2):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(batch, SHAPES[name].channels, *size, generator=generator) for name, size in SIDES.items()
    }


@pytest.mark.parametrize(("num_extra", "extra"), [(0, []), (2, [(2, 2), (1, 1)])])
def test_levels_keep_their_size_extra_ones_halve_it_and_masks_are_as_fine_as_their_source(num_extra, extra):
    encoder = build_encoder(tiny_maskdino_config("MODEL.ENCODER.NUM_EXTRA_LEVELS", num_extra), SHAPES)
    pyramid = encoder(features())
    sizes = [*list(SIDES.values())[1:], *extra]
    assert [tuple(level.shape) for level in pyramid.levels] == [(2, 32, *size) for size in sizes]
    assert pyramid.mask_features.shape == (2, 32, *SIDES["res2"])
    assert encoder(features(), with_masks=False).mask_features is None


def test_every_level_reads_every_level():
    encoder = build_encoder(tiny_maskdino_config("MODEL.ENCODER.NUM_EXTRA_LEVELS", 1), SHAPES)
    inputs = {name: values.requires_grad_() for name, values in features(1).items()}
    for level in encoder(inputs).levels:
        sources = [inputs[name] for name in ("res3", "res4", "res5")]
        gradients = torch.autograd.grad(level.square().sum(), sources, retain_graph=True)
        assert all(gradient.any() for gradient in gradients)


def test_an_offset_of_1_is_a_cell_of_each_level():
    boxes = _reference_boxes(((2, 4), (1, 2)), 4, torch.device("cpu"), torch.float64)
    assert boxes.shape == (1, 2 * 4 + 2, 2, 4)
    # An offset is divided by twice the number of points and multiplied by the side of the box.
    assert (boxes[0, :, :, 2:] / 8).unique(dim=0).tolist() == [[[1 / 4, 1 / 2], [1 / 2, 1.0]]]
    assert boxes[0, 1 * 4 + 2, :, :2].tolist() == [[2.5 / 4, 1.5 / 2]] * 2
    assert boxes[0, 8 + 1, :, :2].tolist() == [[1.5 / 2, 0.5]] * 2


def test_mixed_precision_does_not_reach_it():
    encoder = build_encoder(tiny_maskdino_config(), SHAPES)
    expected = encoder(features())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder({name: values.bfloat16() for name, values in features().items()})
        same = encoder(features())
    assert {values.dtype for values in (*found.levels, found.mask_features)} == {torch.float32}
    torch.testing.assert_close(same.levels, expected.levels)


@pytest.mark.parametrize(
    ("key", "value"), [("MODEL.ENCODER.NUM_HEADS", 7), ("MODEL.ENCODER.NUM_EXTRA_LEVELS", -1)]
)
def test_bad_settings_name_their_key(key, value):
    with pytest.raises(ValueError, match=key):
        build_encoder(tiny_maskdino_config(key, value), SHAPES)


def test_a_missing_level_is_named():
    with pytest.raises(ValueError, match=r"lacks \['res2'\]"):
        build_encoder(tiny_maskdino_config(), {name: SHAPES[name] for name in ("res3", "res4", "res5")})
