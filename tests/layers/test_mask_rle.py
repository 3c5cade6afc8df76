"""Our RLE is pycocotools', byte for byte."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from torch import Tensor

from insta_rtdetr.layers import mask_rle
from insta_rtdetr.layers.mask_rle import decode_crop, encode_crop, encode_masks


def pycocotools_encode(masks: Tensor) -> list[dict]:
    return coco_mask.encode(np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8)))


def edge_cases(height: int, width: int) -> Tensor:
    """Empty, full, each corner alone, all but one corner, one column, one row, stripes, speckle."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(12, height, width, dtype=torch.bool)
    masks[1] = True
    for mask, (y, x) in zip(masks[2:6], [(0, 0), (0, -1), (-1, 0), (-1, -1)], strict=True):
        mask[y, x] = True
    masks[6] = ~masks[5]
    masks[7, :, width // 2] = True
    masks[8, height // 2] = True
    masks[9, :, ::2] = True
    masks[10, 1::2] = True
    masks[11] = torch.rand(height, width, generator=generator) > 0.5
    return masks


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (5, 3), (48, 64)])
def test_edge_cases_have_the_bytes_of_pycocotools(size):
    masks = edge_cases(*size)
    assert encode_masks(masks) == pycocotools_encode(masks)


@pytest.mark.parametrize("chunk_pixels", [1, 100, 2**27])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (12, 16)])
def test_the_way_of_the_gpu_finds_the_same_changes(size, chunk_pixels, monkeypatch):
    monkeypatch.setattr(mask_rle, "CHUNK_PIXELS_GPU", chunk_pixels)
    masks = edge_cases(*size)
    pairs = zip(mask_rle._changes_on_gpu(masks), mask_rle._changes_on_cpu(masks.numpy()), strict=True)
    assert all(np.array_equal(ours, wanted) for ours, wanted in pairs)


def test_masks_need_not_be_contiguous():
    masks = edge_cases(10, 9).transpose(1, 2)[::2]
    assert encode_masks(masks) == pycocotools_encode(masks)


def test_no_masks_give_an_empty_list():
    assert encode_masks(torch.zeros(0, 4, 5, dtype=torch.bool)) == []


def test_decoding_gives_the_masks_back():
    masks = edge_cases(20, 30)
    decoded = coco_mask.decode(encode_masks(masks))
    assert np.array_equal(decoded.transpose(2, 0, 1).astype(bool), masks.numpy())


@pytest.mark.parametrize("masks", [torch.zeros(2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 0, 3, dtype=torch.bool)])
def test_other_masks_are_refused(masks):
    with pytest.raises(ValueError, match="masks must be bool"):
        encode_masks(masks)


@pytest.mark.parametrize("crop", [(0, 0, 6, 7), (2, 3, 5, 6), (0, 2, 6, 4), (1, 0, 6, 7), (0, 0, 1, 1), (5, 6, 6, 7)])
def test_a_crop_is_encoded_as_its_mask(crop):
    top, left, bottom, right = crop
    for part in edge_cases(bottom - top, right - left):
        mask = torch.zeros(1, 6, 7, dtype=torch.bool)
        mask[0, top:bottom, left:right] = part
        assert [encode_crop(part, top, left, (6, 7))] == pycocotools_encode(mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (5, 3), (48, 64), (700, 900)])
def test_a_decoded_crop_is_the_smallest_that_holds_the_mask(size):
    for mask, rle in zip(edge_cases(*size).numpy(), encode_masks(edge_cases(*size)), strict=True):
        crop, top, left = decode_crop(rle)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            assert crop.size == 0
            continue
        assert crop.dtype == bool and (top, left) == (rows[0], columns[0])
        assert np.array_equal(crop, mask[top : rows[-1] + 1, left : columns[-1] + 1])


def test_a_crop_without_pixels_is_an_empty_mask():
    for height, width in ((0, 0), (0, 3), (3, 0)):
        rle = encode_crop(torch.ones(height, width, dtype=torch.bool), 2, 1, (7, 9))
        assert coco_mask.area(rle) == 0 and coco_mask.decode(rle).shape == (7, 9)
