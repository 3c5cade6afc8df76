import pytest
import torch
import torch.nn.functional as F

from insta_rtdetr.layers.boxes import cells_inside
from insta_rtdetr.layers.cropped_masks import _enlarge_whole, enlarge_within
from insta_rtdetr.layers.mask_resize import axis_resize

# Cells, padded input, image in it, result.
SIZES = [
    ((8, 8), (32, 32), (32, 32), (30, 50)),
    ((9, 7), (36, 28), (31, 28), (101, 13)),
    ((4, 6), (16, 24), (16, 24), (16, 24)),
]
# In pixels of the input: ordinary, outside at the left, the whole image, no pixel, ends on pixels' edges.
BOXES = torch.tensor(
    [[5.3, 4.2, 19.8, 14.9], [-9, -5, 6.5, 7], [-1, -1, 99, 99], [7.2, 3, 7.9, 9], [4, 4, 12, 9]], dtype=torch.float64
)


def resizings(cells, padded, resized, output):
    device, dtype = torch.device("cpu"), torch.float64
    return tuple(axis_resize(*side, False, device, dtype) for side in zip(cells, padded, resized, output, strict=True))


@pytest.mark.parametrize("function", [enlarge_within, lambda *arguments: _enlarge_whole(*arguments[:-1])])
@pytest.mark.parametrize(("cells", "padded", "resized", "output"), SIZES)
def test_masks_and_values_equal_those_of_whole_maps(cells, padded, resized, output, function):
    maps = torch.rand(len(BOXES), *cells, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = F.interpolate(maps[None], size=padded, mode="bilinear")[0, :, : resized[0], : resized[1]]
    inputs = inputs * cells_inside(BOXES, *resized)
    expected = F.interpolate(inputs[None], size=output, mode="bilinear")[0]
    to_input, to_result = resizings(cells, padded, resized, resized), resizings(resized, resized, resized, output)
    pieces = list(function(maps, BOXES, to_input, to_result, 0.4))
    for region, values in pieces:
        torch.testing.assert_close(values, expected[region])
    masks = torch.zeros_like(expected, dtype=torch.bool)
    for region, values in pieces:
        masks[region] = values > 0.4
    assert torch.equal(masks, expected > 0.4) and masks.any()


def test_a_pixel_lies_in_a_box_by_its_index():
    inside = cells_inside(torch.tensor([[1.0, 0.5, 3.0, 2.5]]), 4, 4)[0]
    assert inside.nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
