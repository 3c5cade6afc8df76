import pytest
import torch
from scipy.optimize import linear_sum_assignment

from insta_rtdetr.layers.point_sampling import sample_points
from insta_rtdetr.modeling.loss import MATCHER_REGISTRY, HungarianMatcher, LocationMatcher, build_matcher
from insta_rtdetr.modeling.loss.functions import focal_cost, mask_bce_cost, mask_dice_cost
from insta_rtdetr.structures import Prediction, Target
from tests.tiny import tiny_config


def matcher(**costs):
    zero = {f"{name}_cost": 0.0 for name in ("class", "box", "giou", "mask", "dice")}
    return HungarianMatcher(**zero | costs, num_points=500)


def prediction(num_queries=4, masks=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(1, num_queries, 4, generator=generator) * 0.3 + 0.3
    embeddings = torch.randn(1, num_queries, 3, generator=generator) if masks else None
    features = torch.randn(1, 3, 8, 8, generator=generator) if masks else None
    return Prediction(torch.randn(1, num_queries, 5, generator=generator), boxes, embeddings, features)


def test_it_is_registered_and_chosen_by_name():
    assert isinstance(build_matcher(tiny_config()), MATCHER_REGISTRY.get("HungarianMatcher"))
    with pytest.raises(KeyError, match="GuessingMatcher"):
        build_matcher(tiny_config("MODEL.MATCHER.NAME", "GuessingMatcher"))


def test_boxes_are_matched_to_the_nearest():
    boxes = torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1]])
    target = Target(torch.tensor([0, 0]), boxes[[2, 0]] + 0.01)
    (match,) = matcher(box_cost=1.0)([Prediction(torch.zeros(1, 3, 5), boxes[None])], [target])
    assert sorted(zip(match.query.tolist(), match.object.tolist(), strict=True)) == [(0, 1), (2, 0)]


def test_masks_alone_decide_when_all_else_is_equal():
    target_masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    target_masks[0, :4], target_masks[1, 4:] = True, True
    features = (target_masks.float() * 20 - 10)[None]  # channel t is the logit map of object t
    answer = Prediction(torch.zeros(1, 2, 5), torch.full((1, 2, 4), 0.5), torch.eye(2).flip(0)[None], features)
    target = Target(torch.tensor([0, 0]), torch.full((2, 4), 0.5), target_masks)
    for cost in ({"mask_cost": 1.0}, {"dice_cost": 1.0}):
        (match,) = matcher(**cost)([answer], [target])
        assert match.object[match.query.argsort()].tolist() == [1, 0]


def test_costs_equal_their_definitions():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 50).double(), (torch.rand(2, 50) < 0.5).double()
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    for q in range(3):
        for t in range(2):
            assert mask_bce_cost(logits, labels)[q, t].item() == pytest.approx(bce(logits[q], labels[t]).item())
            p = logits[q].sigmoid()
            dice = 1 - (2 * (p * labels[t]).sum() + 1) / (p.sum() + labels[t].sum() + 1)
            assert mask_dice_cost(logits, labels)[q, t].item() == pytest.approx(dice.item())
    certain = torch.tensor([[10.0, -10.0]])
    assert focal_cost(certain, torch.tensor([0]))[0, 0] < 0 < focal_cost(certain, torch.tensor([1]))[0, 0]


def test_features_at_points_give_the_logits_of_whole_maps():
    answer = prediction(masks=True)
    points = torch.rand(1, 30, 2)
    at_points = answer.mask_embeddings[0] @ sample_points(answer.mask_features, points)[0]
    torch.testing.assert_close(at_points, sample_points(answer.mask_logits, points)[0])


def test_more_objects_than_queries_matches_every_query_once():
    target = Target(torch.arange(7) % 5, torch.rand(7, 4) * 0.3 + 0.3)
    (match,) = matcher(box_cost=1.0, class_cost=1.0)([prediction(num_queries=4)], [target])
    assert sorted(match.query.tolist()) == [0, 1, 2, 3]
    assert len(set(match.object.tolist())) == 4


def test_images_without_objects_have_no_pairs():
    answer = prediction(masks=True)
    empty = Target(torch.zeros(0).long(), torch.zeros(0, 4), torch.zeros(0, 8, 8).bool())
    assert [len(m) for m in matcher(mask_cost=1.0, box_cost=1.0)([answer, answer], [empty])] == [0, 0]


def test_nan_predictions_still_get_an_assignment():
    answer = prediction()
    answer.class_logits[:] = torch.nan
    target = Target(torch.tensor([1]), torch.full((1, 4), 0.5))
    (match,) = matcher(class_cost=1.0)([answer], [target])
    assert len(match) == 1


def test_all_layers_together_match_as_each_alone():
    target = Target(torch.arange(3), torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.3)
    layers = [prediction(num_queries=6, seed=i) for i in range(3)]
    together = matcher(box_cost=5.0, class_cost=2.0, giou_cost=2.0)(layers, [target])
    for layer, match in zip(layers, together, strict=True):
        (alone,) = matcher(box_cost=5.0, class_cost=2.0, giou_cost=2.0)([layer], [target])
        assert match.query.tolist() == alone.query.tolist()
        assert match.object.tolist() == alone.object.tolist()


def test_class_cost_is_what_scipy_minimises():
    answer = prediction(num_queries=5)
    target = Target(torch.tensor([3, 1, 1]), torch.full((3, 4), 0.5))
    (match,) = matcher(class_cost=1.0)([answer], [target])
    expected = linear_sum_assignment(focal_cost(answer.class_logits[0], target.classes))
    assert match.query.tolist() == expected[0].tolist()


def location_matcher(**costs):
    return LocationMatcher(
        **{"class_cost": 0.0, "location_cost": 0.0, "mask_cost": 0.0, "dice_cost": 0.0, "num_points": 16} | costs
    )


def left_and_right():
    """Return two objects, of classes 0 and 1, in the left and the right half."""
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, :, :4] = masks[1, :, 4:] = True
    return Target(torch.tensor([0, 1]), torch.zeros(2, 4), masks)


def located(points, num_classes=2):
    return Prediction(torch.zeros(1, len(points), num_classes + 1), query_points=torch.tensor([points]))


def test_a_query_outside_the_object_is_not_worth_its_class():
    answer = located([[0.9, 0.5], [0.1, 0.5], [0.2, 0.5]])
    answer.class_logits[0, 0] = torch.tensor([9.0, 0, 0])  # the left object's class, but in the right object
    answer.class_logits[0, 2] = torch.tensor([5.0, 0, 0])
    (match,) = location_matcher(class_cost=2.0, location_cost=1000.0)([answer], [left_and_right()])
    assert dict(zip(match.object.tolist(), match.query.tolist(), strict=True)) == {0: 2, 1: 0}
    (match,) = location_matcher(class_cost=2.0)([answer], [left_and_right()])
    assert dict(zip(match.object.tolist(), match.query.tolist(), strict=True))[0] == 0


def test_positions_that_an_object_reaches_into_are_matched_with_it():
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 0, 1, 1] = 9.0  # has the highest score for the left object's class, but is outside it
    logits[0, 0, 1, 0] = 5.0
    match = location_matcher(class_cost=2.0, location_cost=1000.0).match_proposals(logits, [left_and_right()])
    assert dict(zip(match.object.tolist(), match.query.tolist(), strict=True))[0] == 2


def test_location_matcher_takes_images_without_objects_and_crowds():
    empty = Target(torch.zeros(0).long(), torch.zeros(0, 4), torch.zeros(0, 8, 8).bool())
    crowd = Target(torch.zeros(9).long(), torch.zeros(9, 4), torch.ones(9, 8, 8).bool())
    answer = located([[0.5, 0.5]] * 3)
    match_of = location_matcher(class_cost=2.0, location_cost=1000.0)
    assert [len(match_of([answer], [target])[0]) for target in (empty, crowd)] == [0, 3]
    logits = torch.zeros(1, 3, 2, 2)
    assert [len(match_of.match_proposals(logits, [target])) for target in (empty, crowd)] == [0, 4]


def test_half_of_the_points_lie_around_the_objects_in_turn(monkeypatch):
    """Two objects are a hundredth of the image wide; without regions, few of 500 points would be in them."""
    seen = []

    def spy(features, points, inside):
        seen.append(points)
        return features[:, :, 0]

    monkeypatch.setattr("insta_rtdetr.modeling.loss.matcher.sample_points", spy)
    boxes = torch.tensor([[0.2, 0.3, 0.01, 0.01], [0.7, 0.6, 0.01, 0.01]])
    masks = torch.zeros(2, 100, 100, dtype=torch.bool)
    masks[0, 30, 20] = masks[1, 60, 70] = True
    around = matcher(mask_cost=1.0)
    around.point_region = 2.0
    answer = Prediction(torch.zeros(1, 3, 5), torch.rand(1, 3, 4), torch.randn(1, 3, 2), torch.randn(1, 2, 1, 500))
    around([answer], [Target(torch.tensor([0, 0]), boxes, masks)])
    distance = (seen[0][0, :250] - boxes[torch.arange(250) % 2, :2]).abs()
    assert distance.max() <= 0.01 + 1e-6
