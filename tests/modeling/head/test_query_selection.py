import math

import pytest
import torch

from insta_rtdetr.modeling.head.query_selection import (
    LEVEL_PENALTY,
    QuerySelection,
    anchors,
    penalise_neighbours,
)
from insta_rtdetr.structures import Memory

CPU = torch.device("cpu")


def test_anchors_by_hand():
    logits, usable = anchors(((2, 4),), (0.1,), CPU, torch.float32)
    boxes = logits.sigmoid()
    torch.testing.assert_close(boxes[5], torch.tensor([1.5 / 4, 1.5 / 2, 0.1, 0.1]))
    assert usable.all()


def test_anchors_at_the_very_border_are_not_used():
    logits, usable = anchors(((1, 100),), (0.1,), CPU, torch.float32)
    assert usable.flatten().tolist() == [0.0] + [1.0] * 98 + [0.0]
    assert logits[0].isinf().all()


def test_one_side_for_each_level():
    with pytest.raises(ValueError, match=r"MODEL.DECODER.ANCHOR_SIZES has 1 values for 2 levels"):
        anchors(((2, 2), (1, 1)), (0.1,), CPU, torch.float32)


def test_the_best_scored_positions_become_queries():
    torch.manual_seed(0)
    selection = QuerySelection(dim=8, num_classes=3, num_queries=4, anchor_sizes=(0.1, 0.2)).eval()
    memory = Memory(torch.randn(2, 20, 8), [(4, 4), (2, 2)])
    queries, prediction = selection(memory)
    tokens = selection.token_norm(selection.token_projection(memory.tokens))
    scores = selection.class_head(tokens).amax(-1)
    torch.testing.assert_close(prediction.class_logits.amax(-1), scores.topk(4, dim=1).values)
    # The box head starts with zeros, so that a query starts at its anchor.
    anchor_logits, _ = anchors(((4, 4), (2, 2)), (0.1, 0.2), CPU, torch.float32)
    torch.testing.assert_close(queries.reference_logits, anchor_logits[scores.topk(4, dim=1).indices])
    assert not queries.content.requires_grad
    assert queries.reference_logits.requires_grad


def test_more_queries_than_positions_gives_all_positions():
    selection = QuerySelection(dim=8, num_classes=3, num_queries=100, anchor_sizes=(0.1,))
    queries, _ = selection(Memory(torch.randn(1, 6, 8), [(2, 3)]))
    assert queries.content.shape == (1, 6, 8)


def test_every_class_starts_with_a_probability_of_one_in_a_hundred():
    selection = QuerySelection(dim=8, num_classes=3, num_queries=4, anchor_sizes=(0.1,))
    assert selection.class_head.bias[0].item() == pytest.approx(math.log(0.01 / 0.99), rel=1e-5)


def test_neighbours_of_a_better_position_come_after_all_local_maxima():
    """Two levels of one row: the first has groups of high scores at its ends, the second one high score."""
    scores = torch.tensor([[5.0, 6.0, 5.5, 0.0, 1.0, 0.5, 2.0]])
    order = penalise_neighbours(scores, [(1, 5), (1, 2)]).argsort(dim=1, descending=True)
    assert order[0, :3].tolist() == [1, 6, 4]
    assert order[0, 3:].tolist() == [2, 0, 5, 3]


def test_local_maxima_reach_objects_that_clumps_leave_without_a_query():
    """There are two queries for a large object with nine high scores and a small one with one lower score."""
    selection = QuerySelection(dim=1, num_classes=1, num_queries=2, anchor_sizes=(0.1,), local_maxima=False)
    scores = torch.zeros(8, 8)
    scores[1:4, 1:4], scores[2, 2], scores[6, 6] = 5.0, 6.0, 3.0
    selection.token_projection, selection.token_norm, selection.class_head = (torch.nn.Identity() for _ in range(3))
    tokens = scores.flatten()[None, :, None]
    crowded = selection.choose(tokens, selection.class_head, [(8, 8)])[2]
    selection.local_maxima = True
    spread = selection.choose(tokens, selection.class_head, [(8, 8)])[2]
    assert 6 * 8 + 6 not in crowded and sorted(spread[0].tolist()) == [2 * 8 + 2, 6 * 8 + 6]


def test_an_object_found_on_two_levels_gets_one_query_when_levels_are_compared():
    fine, coarse = torch.zeros(8, 8), torch.zeros(4, 4)
    fine[1, 1], coarse[0, 0] = 5.0, 6.0  # an object with a higher score on the coarse level
    fine[7, 7], coarse[2, 3] = 4.0, 3.0  # one with a higher score on the fine level, next to its coarse cell
    scores = torch.cat([fine.flatten(), coarse.flatten()])[None]
    sizes = [(8, 8), (4, 4)]
    four = [64, 9, 63, 64 + 11]
    assert penalise_neighbours(scores, sizes).topk(4).indices[0].tolist() == four
    compared = penalise_neighbours(scores, sizes, across_levels=True)
    assert compared.topk(2).indices[0].tolist() == [64, 63]
    assert compared[0, [9, 64 + 11]].tolist() == [5 - LEVEL_PENALTY, 3 - LEVEL_PENALTY]
    # They still rank before positions next to a better one of the same level.
    assert compared[0, 0] < compared[0, 64 + 11]


@pytest.mark.parametrize("sizes", [[(4, 4)], [(8, 8), (4, 4), (2, 2)], [(4, 12), (2, 6)]])
def test_the_best_position_of_all_is_never_handicapped(sizes):
    torch.manual_seed(0)
    scores = torch.rand(2, sum(height * width for height, width in sizes))
    compared = penalise_neighbours(scores, sizes, across_levels=True)
    torch.testing.assert_close(compared.amax(1), scores.amax(1))


@pytest.mark.parametrize("relative, side", [(True, 0.1), (False, None)])
def test_relative_boxes_move_by_their_own_side(relative, side):
    """Every position predicts the deltas that shift its box to the right by 1 and make it e times as high."""
    selection = QuerySelection(dim=8, num_classes=1, num_queries=4, anchor_sizes=(0.1,), relative_boxes=relative)
    selection.box_head.layers[-1].bias.data = torch.tensor([1.0, 0.0, 0.0, 1.0])
    boxes = selection(Memory(torch.randn(1, 4, 8), [(2, 2)]))[0].reference_logits.sigmoid()[0]
    anchors_x = {0.25, 0.75}
    moved_x = {round(x - (side or 0), 4) for x in boxes[:, 0].tolist()}
    assert (moved_x == anchors_x) == relative
    if relative:
        torch.testing.assert_close(boxes[:, 2:], torch.tensor([[0.1, 0.1 * math.e]]).expand(4, -1))


def test_positions_everywhere_predict_what_the_chosen_ones_do():
    selection = QuerySelection(dim=8, num_classes=1, num_queries=4, anchor_sizes=(0.1,), relative_boxes=True)
    torch.nn.init.normal_(selection.box_head.layers[-1].weight, std=0.1)
    memory = Memory(torch.randn(1, 4, 8), [(2, 2)])
    everywhere = selection.predict_dense(memory, selection.class_head, selection.box_head)
    chosen = selection(memory)[1]
    order = everywhere.class_logits[0, :, 0].argsort(descending=True)
    torch.testing.assert_close(everywhere.boxes_cxcywh[:, order], chosen.boxes_cxcywh)
