"""Masks that are encoded as they are made are those that are pasted and then encoded."""

import pytest
import torch
from detectron2.structures import Instances

from insta_rtdetr.layers.mask_resize import paste
from insta_rtdetr.layers.mask_rle import encode_masks
from insta_rtdetr.layers.rle_masks import RleMasks, encode_pieces

SIZE = (12, 17)


def pieces_of(*regions: tuple[int, slice, slice]) -> list:
    """Noise in regions of maps."""
    generator = torch.Generator().manual_seed(0)
    pieces = []
    for index, y, x in regions:
        piece = torch.rand(1, y.stop - y.start, x.stop - x.start, generator=generator) > 0.4
        piece[..., [0, -1]] = True  # so that objects touch the ends of their regions
        pieces.append(((slice(index, index + 1), y, x), piece))
    return pieces


REGIONS = {
    "within": [(0, slice(2, 5), slice(3, 9))],
    "last row": [(0, slice(2, 12), slice(3, 9))],
    "first row": [(0, slice(0, 4), slice(3, 9))],
    "left": [(0, slice(0, 12), slice(0, 5))],
    "right": [(0, slice(0, 12), slice(9, 17))],
    "whole": [(0, slice(0, 12), slice(0, 17))],
    "bands": [(0, slice(0, 5), slice(3, 9)), (0, slice(5, 12), slice(3, 9))],
    "several": [(0, slice(1, 5), slice(3, 4)), (2, slice(0, 12), slice(0, 17)), (3, slice(11, 12), slice(16, 17))],
}


@pytest.mark.parametrize("kind", REGIONS)
def test_encoded_pieces_are_the_pasted_ones_encoded(kind):
    pieces = pieces_of(*REGIONS[kind])
    which = torch.tensor([3, 0, 1, 2, 0])
    expected = paste(pieces, which, SIZE)
    assert expected.any()
    found = encode_pieces(iter(pieces), which, SIZE)
    assert found.rles == encode_masks(expected)
    assert (found.numpy() == expected.numpy()).all()
    assert len(encode_pieces(iter([]), torch.zeros(0, dtype=torch.long), SIZE)) == 0


def test_pieces_of_many_whole_masks_as_a_gpu_gives_them():
    masks = torch.rand(5, *SIZE, generator=torch.Generator().manual_seed(0)) > 0.5
    everywhere = (slice(0, 12), slice(0, 17))
    pieces = [((slice(0, 3), *everywhere), masks[:3]), ((slice(3, 5), *everywhere), masks[3:])]
    assert encode_pieces(pieces, torch.tensor([4, 0, 2]), SIZE).rles == encode_masks(masks[[4, 0, 2]])


def test_instances_hold_them():
    masks = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0)) > 0.5
    instances = Instances(SIZE, pred_masks=RleMasks(encode_masks(masks), SIZE))
    for index in (torch.tensor([True, False, True]), slice(1, 3), torch.tensor([2, 0]), 1):
        chosen = instances.to("cpu")[index].pred_masks.numpy()
        assert (chosen == masks[index].reshape(-1, *SIZE).numpy()).all()


def test_a_number_gives_the_mask_itself_and_a_slice_gives_some_masks():
    masks = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1)) > 0.5
    encoded = RleMasks(encode_masks(masks), SIZE)
    assert torch.equal(encoded[1], masks[1]) and (encoded[1:].numpy() == masks[1:].numpy()).all()
