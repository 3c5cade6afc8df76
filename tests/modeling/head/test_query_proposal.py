import pytest
import torch
import torch.nn.functional as F

from insta_rtdetr.modeling.head.query_proposal import PositionGrid, QueryProposal, grid_points, rank_positions


def logits_of(probs):
    """Return logits (1, K + 1, h, w) of the given probabilities (K, h, w), with the rest for "no object"."""
    return torch.cat([probs, 1 - probs.sum(0, keepdim=True)]).log()[None]


def test_maxima_come_first_and_only_the_same_class_competes():
    probs = torch.full((2, 3, 4), 0.05)
    probs[0, 0, 0], probs[0, 0, 1] = 0.6, 0.5  # the second is next to a higher one of its class
    probs[1, 1, 1] = 0.3  # next to both, of another class
    ranks = rank_positions(logits_of(probs))[0].unflatten(0, (3, 4))
    torch.testing.assert_close(ranks[0, :2], torch.tensor([1.6, 0.5]))
    torch.testing.assert_close(ranks[1, 1], torch.tensor(1.3))


def original_ranks(logits):
    """Compute the original's formula, with a map for each class in which all but the likeliest class are zero."""
    probs = logits.softmax(1)
    one_hot = F.one_hot(probs[:, :-1].argmax(1), logits.shape[1]).permute(0, 3, 1, 2)
    probs = probs * one_hot
    highest = F.max_pool2d(probs, 3, stride=1, padding=1)
    return (probs + ((probs >= highest) & (probs >= 1e-6)))[:, :-1].amax(1).flatten(1)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 8)])
def test_ranks_equal_the_originals_formula(size):
    logits = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(rank_positions(logits), original_ranks(logits))


def test_queries_are_features_positions_and_points_of_one_place():
    torch.manual_seed(0)
    proposal, grid = QueryProposal(8, 3, num_queries=5), PositionGrid(8, 2)
    level = torch.randn(2, 8, 4, 6)
    queries, logits = proposal(level, grid)
    assert logits.shape == (2, 4, 4, 6)
    best = rank_positions(logits).topk(5, dim=1).indices
    for image in range(2):
        assert torch.equal(queries.content[image], level[image].flatten(1).T[best[image]])
        assert torch.equal(queries.positions[image], grid(4, 6)[0, best[image]])
        expected = torch.stack([best[image] % 6 / 5, best[image] // 6 / 3], dim=1)
        torch.testing.assert_close(queries.points[image], expected)


def test_a_small_map_gives_as_many_queries_as_it_has_positions():
    queries, _ = QueryProposal(8, 3, num_queries=100)(torch.randn(1, 8, 2, 3), PositionGrid(8, 2))
    assert queries.content.shape == (1, 6, 8)


def test_points_go_from_corner_to_corner_row_by_row():
    assert grid_points(2, 3, "cpu").tolist() == [[0, 0], [0.5, 0], [1, 0], [0, 1], [0.5, 1], [1, 1]]
