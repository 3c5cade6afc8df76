"""Tests that masks that are computed a few at a time, and their gradients, equal those of whole maps."""

import pytest
import torch
from torch import Tensor

from insta_rtdetr.layers.point_sampling import UncertainPoints, regions_around, sample_points
from insta_rtdetr.layers.window import Window
from insta_rtdetr.modeling.loss import matched_masks
from insta_rtdetr.modeling.loss.matched_masks import MatchedMasks, group_by_features
from insta_rtdetr.structures import Match, Prediction

LAYOUTS = [torch.contiguous_format, torch.channels_last]
MATCHES = [
    Match(torch.tensor([0, 0, 1]), torch.tensor([5, 2, 0]), torch.tensor([0, 1, 0])),
    Match(torch.tensor([1, 0]), torch.tensor([1, 4]), torch.tensor([0, 0])),
    Match(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long)),
]


@pytest.fixture(autouse=True)
def two_masks_at_a_time(monkeypatch):
    monkeypatch.setattr(matched_masks, "masks_at_a_time", lambda *_: 2)
    monkeypatch.setattr(matched_masks, "MIN_MAPS_AT_A_TIME", 2)


@pytest.fixture(params=[True, False], ids=["as on a CPU", "as on a GPU"])
def device(request, monkeypatch):
    monkeypatch.setattr(MatchedMasks, "_is_on_cpu", request.param)


def layers(
    has_biases: bool, has_own_features: bool, layout: torch.memory_format = torch.contiguous_format
) -> list[Prediction]:
    """Return three predictions of six queries; the second one has features of its own, or those of the others."""
    torch.manual_seed(0)
    shared, own = (one.contiguous(memory_format=layout) for one in torch.randn(2, 2, 3, 4, 5, dtype=torch.float64))
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
    """Return the maps (N, h, w) of all pairs, taken from those of all queries."""
    return torch.cat([p.mask_logits[m.image, m.query] for p, m in zip(predictions, MATCHES, strict=True)])


def leaves(predictions: list[Prediction]) -> list[Tensor]:
    tensors = [t for p in predictions for t in (p.mask_embeddings, p.mask_biases, p.mask_features)]
    return list({id(t): t for t in tensors if t is not None}.values())


@pytest.mark.parametrize("has_biases", [False, True])
@pytest.mark.parametrize("has_own_features", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_maps_are_those_of_all_queries(has_biases, has_own_features, layout, device):
    predictions = layers(has_biases, has_own_features, layout)
    found = torch.zeros(5, 4, 5, dtype=torch.float64)
    groups = group_by_features(list(zip(predictions, MATCHES, strict=True)))
    assert len(groups) == 1 + has_own_features
    for masks in groups:
        for part, maps in masks.maps():
            assert len(part) <= 2 or not masks._is_on_cpu
            found[masks.places[part]] = maps
    torch.testing.assert_close(found, whole_maps(predictions).detach())


def draw(regions_xyxy: Tensor | None, inside: bool) -> UncertainPoints:
    torch.manual_seed(1)
    return UncertainPoints(
        5, 8, oversample_ratio=3.0, importance_ratio=0.75, inside=inside, regions_xyxy=regions_xyxy,
        like=torch.zeros(1, dtype=torch.float64),
    )  # fmt: skip


# Two masks of the first image share their region.  Of the other regions, one crosses the border and one is at a corner.
REGIONS = regions_around(
    torch.tensor([
        [0.5, 0.4, 0.2, 0.1], [0.3, 0.9, 0.5, 0.4], [0.05, 0.05, 0.1, 0.1], [0.6, 0.6, 0.9, 0.9], [0.5, 0.4, 0.2, 0.1],
    ], dtype=torch.float64),
    2.0,
)  # fmt: skip


@pytest.mark.parametrize("has_biases", [False, True])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("regions", [None, REGIONS], ids=["anywhere", "in regions"])
@pytest.mark.parametrize("cells_per_point", [0, 100], ids=["windows", "whole maps"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_at_points_and_their_gradients_are_those_of_whole_maps(
    monkeypatch, has_biases, inside, regions, cells_per_point, layout, device
):
    monkeypatch.setattr(matched_masks, "MIN_CELLS_PER_POINT", cells_per_point)
    predictions = layers(has_biases, has_own_features=False, layout=layout)
    (masks,) = group_by_features(list(zip(predictions, MATCHES, strict=True)))
    found, points = masks.at_points(draw(regions, inside))
    maps = whole_maps(predictions)
    chosen = draw(regions, inside).choose(torch.arange(5), maps, Window.whole((4, 5)))
    torch.testing.assert_close(points.sort(1).values, chosen.sort(1).values)
    expected = sample_points(maps[:, None], points, inside).squeeze(1)
    torch.testing.assert_close(found, expected)
    weights, tensors = torch.randn_like(expected), leaves(predictions)
    for got, wanted in zip(
        torch.autograd.grad(found, tensors, weights), torch.autograd.grad(expected, tensors, weights), strict=True
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("regions", [None, REGIONS[:0]])
def test_without_matches_features_get_a_gradient_of_zeros(monkeypatch, regions):
    monkeypatch.setattr(matched_masks, "MIN_CELLS_PER_POINT", 0)
    prediction = layers(has_biases=True, has_own_features=False)[0]
    masks = MatchedMasks.join([(prediction, MATCHES[2])])
    drawn = UncertainPoints(
        0, 8, oversample_ratio=3.0, importance_ratio=0.75, regions_xyxy=regions, like=masks.features
    )  # fmt: skip
    logits, points = masks.at_points(drawn)
    assert logits.shape == (0, 8) and points.shape == (0, 8, 2)
    (gradient,) = torch.autograd.grad(logits.sum(), prediction.mask_features)
    assert gradient.shape == (2, 3, 4, 5) and not gradient.any()
