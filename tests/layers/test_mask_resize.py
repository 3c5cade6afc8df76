import pytest
import torch
import torch.nn.functional as F

from insta_rtdetr.layers import mask_resize
from insta_rtdetr.layers.mask_resize import _whole_maps, axis_resize, enlarge, paste

CPU = torch.device("cpu")
# Cells, padded input, image in it, result.
SIZES = [
    ((8, 8), (32, 32), (32, 32), (30, 50)),
    ((8, 8), (32, 32), (25, 18), (60, 37)),
    ((9, 7), (36, 28), (31, 28), (101, 13)),
    ((16, 16), (64, 64), (64, 40), (7, 3)),
    ((8, 8), (32, 32), (32, 32), (300, 290)),
]


def axes(cells, padded, resized, output, twice, dtype=torch.float64):
    sides = zip(cells, padded, resized, output, strict=True)
    return [axis_resize(*side, twice, CPU, dtype) for side in sides]


def interpolated(maps, padded, resized, output, twice):
    """What plain PyTorch makes of it."""
    if twice:
        maps = F.interpolate(maps[None], size=padded, mode="bilinear")[..., : resized[0], : resized[1]]
        return F.interpolate(maps, size=output, mode="bilinear")[0]
    if resized == padded:
        return F.interpolate(maps[None], size=output, mode="bilinear")[0]
    y, x = (
        (torch.arange(n, dtype=maps.dtype) + 0.5) * (2 * part / (whole * n)) - 1
        for n, part, whole in zip(output, resized, padded, strict=True)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return F.grid_sample(maps[None], grid[None], padding_mode="border", align_corners=False)[0]


def example_maps(height, width):
    """Random noise, nothing, everything, one cell, the cells of the border, a blob, two far corners; float64."""
    maps = -torch.rand(7, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.1
    maps[0] = torch.randn(height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    maps[2] *= -1
    maps[3, height // 2, width // 3] = 5
    maps[4, [0, -1]] = maps[4, :, [0, -1]] = 2
    maps[5, 2:5, 1:4] = 1
    maps[6, 0, -1] = maps[6, -1, 0] = 3
    return maps


def masks_of(maps, rows, columns, threshold=0.0):
    pieces = [(region, values > threshold) for region, values in enlarge(maps, rows, columns, threshold)]
    return paste(pieces, torch.arange(len(maps)), (len(rows.matrix), len(columns.matrix)))


@pytest.mark.parametrize("whole_pixels", [0, mask_resize.WHOLE_PIXELS])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(("cells", "padded", "resized", "output"), SIZES)
def test_masks_and_values_equal_interpolation(cells, padded, resized, output, twice, whole_pixels, monkeypatch):
    monkeypatch.setattr(mask_resize, "WHOLE_PIXELS", whole_pixels)
    maps = example_maps(*cells)
    rows, columns = axes(cells, padded, resized, output, twice)
    expected = interpolated(maps, padded, resized, output, twice)
    assert torch.equal(masks_of(maps, rows, columns), expected > 0)
    for region, values in enlarge(maps, rows, columns, 0.0):
        torch.testing.assert_close(values, expected[region])
    assert torch.equal(masks_of(maps.sigmoid(), rows, columns, 0.7), interpolated(
        maps.sigmoid(), padded, resized, output, twice
    ) > 0.7)


@pytest.mark.parametrize("twice", [False, True])
def test_whole_maps_equal_regions(twice, monkeypatch):
    """What other devices than a CPU do."""
    maps, sizes = example_maps(8, 8), SIZES[1]
    rows, columns = axes(*sizes, twice)
    on_cpu = masks_of(maps, rows, columns)
    monkeypatch.setattr(mask_resize, "occupied_regions", lambda *arguments: _whole_maps(*arguments[:3]))
    monkeypatch.setattr(mask_resize, "CHUNK_PIXELS_GPU", 3 * 60 * 37)  # three maps at a time
    parts = list(enlarge(maps, rows, columns, 0.0))
    assert [len(values) for _, values in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([values for _, values in parts]) > 0, on_cpu)


def test_chunks_do_not_show(monkeypatch):
    maps = example_maps(8, 8)
    rows, columns = axes(*SIZES[0], twice=True)
    whole = masks_of(maps, rows, columns)
    monkeypatch.setattr(mask_resize, "CHUNK_PIXELS", 100)
    monkeypatch.setattr(mask_resize, "BAND_COLUMNS", 7)
    assert len(list(enlarge(maps, rows, columns, 0.0))) > 3 * len(maps)
    assert torch.equal(masks_of(maps, rows, columns), whole)


def test_nothing_is_made_where_nothing_can_be():
    maps = example_maps(8, 8)
    rows, columns = axes(*SIZES[0], twice=False)
    pixels = [0] * len(maps)
    for (which, _, _), values in enlarge(maps, rows, columns, 0.0):
        pixels[which.start] += values.numel()
    assert pixels[1] == 0  # the empty map
    assert pixels[2] == 30 * 50
    assert 0 < pixels[3] < 30 * 50 / 8  # one cell of 64


def test_no_maps():
    rows, columns = axes(*SIZES[0], twice=False)
    assert masks_of(torch.zeros(0, 8, 8, dtype=torch.float64), rows, columns).shape == (0, 30, 50)


def test_a_map_is_pasted_as_often_as_it_is_asked_for():
    maps = example_maps(8, 8)
    rows, columns = axes(*SIZES[0], twice=False)
    pieces = [(region, values > 0) for region, values in enlarge(maps, rows, columns, 0.0)]
    which = torch.tensor([5, 1, 0, 5])
    assert torch.equal(paste(pieces, which, (30, 50)), masks_of(maps, rows, columns)[which])
