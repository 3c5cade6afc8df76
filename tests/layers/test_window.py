import torch

from insta_rtdetr.layers.point_sampling import sample_points
from insta_rtdetr.layers.window import Window, windows_around


def test_windows_have_the_cells_that_samples_read_by_hand():
    # Cells are 0.25 wide and 0.1 high. x from 0.3 to 0.6 reads the centres from 0.125 to 0.625.
    (window,) = windows_around(torch.tensor([[0.3, 0.02, 0.6, 0.13]]), (10, 4))
    assert (window.rows, window.columns) == (slice(0, 2), slice(0, 3))
    assert window.shape == (2, 3) and not window.is_whole


def test_a_region_of_the_whole_map_has_all_cells():
    assert windows_around(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (10, 4)) == [Window.whole((10, 4))]
    assert Window.whole((10, 4)).is_whole
    assert windows_around(torch.zeros(0, 4), (10, 4)) == []


def test_samples_of_a_part_are_those_of_the_whole():
    torch.manual_seed(0)
    maps = torch.rand(1, 1, 9, 7, dtype=torch.float64)
    corners = torch.rand(50, 2, 2, dtype=torch.float64).sort(1).values
    for region, window in zip(corners, windows_around(corners.flatten(1), (9, 7)), strict=True):
        points = torch.lerp(region[:1], region[1:], torch.rand(20, 2, dtype=torch.float64))[None]
        for inside in (False, True):
            found = sample_points(window.crop(maps), window.localise(points), inside)
            torch.testing.assert_close(found, sample_points(maps, points, inside))
