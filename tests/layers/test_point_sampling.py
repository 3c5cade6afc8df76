import pytest
import torch

from insta_rtdetr.layers import point_sampling
from insta_rtdetr.layers.point_sampling import (
    UncertainPoints,
    cell_centres,
    indices_of_smallest,
    regions_around,
    sample_masks,
    sample_points,
    sample_points_backward,
)
from insta_rtdetr.layers.window import Window


def test_centres_of_cells_row_by_row():
    assert cell_centres(1, 2).tolist() == [[0.25, 0.5], [0.75, 0.5]]
    maps = torch.rand(1, 1, 3, 5)
    torch.testing.assert_close(sample_points(maps, cell_centres(3, 5)[None]), maps.flatten(2))


def test_sampling_by_hand():
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    points = torch.tensor([[[0.25, 0.25], [0.5, 0.5], [0.75, 0.5]]])
    assert sample_points(maps, points).tolist() == [[[0.0, 1.5, 2.0]]]


def test_shared_points_equal_repeated_points():
    maps, points = torch.rand(3, 2, 5, 7), torch.rand(1, 11, 2)
    torch.testing.assert_close(sample_points(maps, points), sample_points(maps, points.expand(3, -1, -1)))


@pytest.mark.parametrize("sample", [point_sampling._sample_mask_by_mask, point_sampling._sample_all_masks])
@pytest.mark.parametrize("num_rows", [1, 5])
def test_binary_masks_are_sampled_like_float_maps(sample, num_rows):
    masks = torch.rand(4, 9, 6) < 0.5
    index = torch.tensor([0, 3, 3, 1, 2])
    # Beyond the border as well: a sample outside is 0.
    points = torch.rand(num_rows, 50, 2, dtype=torch.float64) * 1.2 - 0.1
    expected = sample_points(masks[index][:, None].double(), points).squeeze(1)
    torch.testing.assert_close(sample(masks, index, points, inside=False), expected)


@pytest.mark.parametrize("inside", [False, True])
def test_both_ways_to_sample_masks_agree(inside):
    torch.manual_seed(0)
    masks, index = torch.rand(3, 9, 6) < 0.5, torch.tensor([2, 0, 2, 2])
    points = torch.rand(4, 200, 2, dtype=torch.float64) * 1.2 - 0.1
    by_mask = point_sampling._sample_mask_by_mask(masks, index, points, inside)
    torch.testing.assert_close(by_mask, point_sampling._sample_all_masks(masks, index, points, inside))


@pytest.mark.parametrize("inside", [False, True])
def test_gradient_of_samples_is_that_of_autograd(inside):
    maps = torch.rand(3, 1, 5, 7, dtype=torch.float64, requires_grad=True)
    points = torch.rand(3, 11, 2, dtype=torch.float64) * 1.2 - 0.1
    gradient = torch.rand(3, 11, dtype=torch.float64)
    (expected,) = torch.autograd.grad(sample_points(maps, points, inside).squeeze(1), maps, gradient)
    torch.testing.assert_close(sample_points_backward(gradient, points, (5, 7), inside), expected.squeeze(1))


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_the_smallest_values_are_those_of_topk(count):
    values = torch.rand(3, 9)
    found = values.gather(1, indices_of_smallest(values, count)).sort(1).values
    assert torch.equal(found, values.sort(1).values[:, :count])


def test_one_pixel_mask_and_no_mask():
    assert sample_masks(torch.ones(1, 1, 1).bool(), torch.tensor([0]), torch.tensor([[[0.5, 0.5]]])).item() == 1
    assert sample_masks(torch.ones(0, 4, 4).bool(), torch.zeros(0).long(), torch.rand(0, 3, 2)).shape == (0, 3)


def choose_all(logits: torch.Tensor, num_points: int, **options) -> torch.Tensor:
    """The points of all masks, chosen for one at a time, the last first."""
    drawn = UncertainPoints(len(logits), num_points, like=logits, **options)
    which, window = torch.arange(len(logits)).flip(0), Window.whole(tuple(logits.shape[1:]))
    return torch.cat([drawn.choose(one, logits[one], window) for one in which.split(1)]).flip(0)


def test_uncertain_points_lie_where_logits_are_near_zero():
    torch.manual_seed(0)
    # Logits grow from -8 at the left to 8 at the right: uncertain is the middle.
    logits = torch.linspace(-8, 8, 32).expand(2, 32, 32).contiguous()
    points = choose_all(logits, 100, oversample_ratio=3, importance_ratio=0.75)
    assert points.shape == (2, 100, 2)
    chosen, others = points[:, :75, 0], points[:, 75:, 0]
    assert ((chosen - 0.5).abs() < 0.25).all()
    assert ((others - 0.5).abs() > 0.3).any()


def test_inside_the_outermost_cells_go_on_and_masks_are_read_at_the_nearest_pixel():
    maps = torch.tensor([[[[2.0, 4.0]]]])
    points = torch.tensor([[[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]])
    assert sample_points(maps, points, inside=True).tolist() == [[[2.0, 3.0, 4.0]]]
    mask = torch.tensor([[[False, True]]])
    points = torch.tensor([[[0.0, 0.0], [0.49, 0.5], [0.51, 1.0], [1.0, 1.0]]])
    assert sample_masks(mask, torch.tensor([0]), points, inside=True).tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_regions_are_as_many_times_as_large_as_boxes_and_end_at_the_border():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.1], [0.1, 0.9, 0.2, 0.4]])
    expected = torch.tensor([[0.3, 0.4, 0.7, 0.6], [0.0, 0.5, 0.3, 1.0]])
    torch.testing.assert_close(regions_around(boxes, 2.0), expected)


def test_candidates_lie_in_the_regions_and_the_other_points_anywhere():
    torch.manual_seed(0)
    regions = torch.tensor([[0.1, 0.2, 0.3, 0.25], [0.6, 0.6, 0.7, 0.9]])
    logits = torch.randn(2, 16, 16)
    points = choose_all(logits, 200, oversample_ratio=3.0, importance_ratio=0.5, regions_xyxy=regions)
    chosen, others = points[:, :100], points[:, 100:]
    assert (chosen >= regions[:, None, :2]).all() and (chosen <= regions[:, None, 2:]).all()
    assert (others < 0.1).any() and (others > 0.9).any()
