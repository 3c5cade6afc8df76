"""Masks of matched queries, a few at a time, are those of whole maps, and so are their gradients."""

import pytest
import torch
from torch import Tensor

from insta_rtdetr.layers.point_sampling import sample_points
from insta_rtdetr.modeling.loss import matched_masks
from insta_rtdetr.modeling.loss.matched_masks import MatchedMasks, group_by_features
from insta_rtdetr.structures import Match, Prediction

MATCHES = [
    Match(torch.tensor([0, 0, 1]), torch.tensor([5, 2, 0]), torch.tensor([0, 1, 0])),
    Match(torch.tensor([1, 0]), torch.tensor([1, 4]), torch.tensor([0, 0])),
    Match(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long)),
]


@pytest.fixture(autouse=True)
def two_masks_at_a_time(monkeypatch):
    monkeypatch.setattr(matched_masks, "masks_at_a_time", lambda *_: 2)


def layers(has_biases: bool, has_own_features: bool) -> list[Prediction]:
    """Three predictions of six queries each; the last one has features of its own, or the first one's."""
    torch.manual_seed(0)
    shared, own = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    return [
        Prediction(
            torch.zeros(2, 6, 1),
            mask_embeddings=torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True),
            mask_features=features.requires_grad_(),
            mask_biases=torch.randn(2, 6, dtype=torch.float64, requires_grad=True) if has_biases else None,
        )
        for features in (shared, own if has_own_features else shared, shared)
    ]


def whole_maps(predictions: list[Prediction]) -> Tensor:
    """(N, h, w) of all pairs, from the masks of all queries."""
    return torch.cat([p.mask_logits[m.image, m.query] for p, m in zip(predictions, MATCHES, strict=True)])


def leaves(predictions: list[Prediction]) -> list[Tensor]:
    tensors = [t for p in predictions for t in (p.mask_embeddings, p.mask_biases, p.mask_features)]
    return list({id(t): t for t in tensors if t is not None}.values())


@pytest.mark.parametrize("has_biases", [False, True])
@pytest.mark.parametrize("has_own_features", [False, True])
def test_maps_are_those_of_all_queries(has_biases, has_own_features):
    predictions = layers(has_biases, has_own_features)
    found = torch.zeros(5, 4, 5, dtype=torch.float64)
    groups = group_by_features(list(zip(predictions, MATCHES, strict=True)))
    assert len(groups) == 1 + has_own_features
    for masks in groups:
        for part, maps in masks.maps():
            assert len(part) <= 2
            found[masks.places[part]] = maps
    torch.testing.assert_close(found, whole_maps(predictions).detach())


@pytest.mark.parametrize("has_biases", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_logits_at_points_and_their_gradients_are_those_of_whole_maps(has_biases, inside):
    predictions = layers(has_biases, has_own_features=False)
    points = torch.rand(5, 7, 2, dtype=torch.float64) * 1.2 - 0.1
    (masks,) = group_by_features(list(zip(predictions, MATCHES, strict=True)))
    found, chosen = masks.at_points(lambda places, maps: points[places], 7, inside)
    expected = sample_points(whole_maps(predictions)[:, None], points, inside).squeeze(1)
    assert torch.equal(chosen, points)
    torch.testing.assert_close(found, expected)
    weights, tensors = torch.randn_like(expected), leaves(predictions)
    for got, wanted in zip(
        torch.autograd.grad(found, tensors, weights), torch.autograd.grad(expected, tensors, weights), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_points_are_chosen_by_the_logits_of_their_masks():
    predictions = layers(has_biases=True, has_own_features=False)
    corner = whole_maps(predictions)[:, 0, 0]
    masks = MatchedMasks.join(list(zip(predictions, MATCHES, strict=True)))
    _, points = masks.at_points(lambda places, maps: maps[:, :1, :1].expand(-1, 1, 2), 1, inside=False)
    torch.testing.assert_close(points[:, 0, 0], corner.detach())


def test_without_matches_features_get_a_gradient_of_zeros():
    prediction = layers(has_biases=True, has_own_features=False)[0]
    masks = MatchedMasks.join([(prediction, MATCHES[2])])
    logits, points = masks.at_points(lambda places, maps: maps, 7, inside=False)
    assert logits.shape == (0, 7) and points.shape == (0, 7, 2)
    (gradient,) = torch.autograd.grad(logits.sum(), prediction.mask_features)
    assert gradient.shape == (2, 3, 4, 5) and not gradient.any()
