import torch

from insta_rtdetr.modeling.head import PrototypeMaskHead, SharedHeadDecoder
from insta_rtdetr.structures import Memory, Queries

DIM = 16


def decode(training: bool = True):
    """Return the queries' boxes, as a leaf of the graph, and the predictions."""
    torch.manual_seed(0)
    model = SharedHeadDecoder(
        dim=DIM, num_classes=3, num_layers=3, eval_layers=0, num_heads=2, num_levels=2, num_points=2,
        feedforward_dim=8, dropout=0.0, mask_head=PrototypeMaskHead(DIM, 5, 8),
    ).train(training)  # fmt: skip
    # The box head starts with zeros, which would hide errors that depend on the boxes.
    torch.nn.init.normal_(model.box_head.layers[-1].weight)
    boxes = torch.randn(2, 5, 4, requires_grad=True)
    memory = Memory(torch.rand(2, 20, DIM), [(4, 4), (2, 2)])
    return boxes, model(Queries(torch.rand(2, 5, DIM), boxes), memory, torch.rand(2, 8, 6, 6))


def test_the_queries_answer_before_the_first_layer_in_training():
    boxes, predictions = decode()
    assert len(predictions) == 1 + 3
    torch.testing.assert_close(predictions[0].boxes_cxcywh, boxes.sigmoid())
    assert predictions[0].class_logits.shape == (2, 5, 3) and predictions[0].mask_logits.shape == (2, 5, 6, 6)
    assert len(decode(training=False)[1]) == 1


def test_a_box_learns_from_the_next_layers_and_from_no_later_one():
    boxes, (_, first, second, _) = decode()
    assert torch.autograd.grad(first.boxes_cxcywh.sum(), boxes, retain_graph=True)[0].abs().sum() > 0
    assert torch.autograd.grad(second.boxes_cxcywh.sum(), boxes, allow_unused=True)[0] is None


def test_training_and_eval_answer_the_same():
    last, (only,) = decode()[1][-1], decode(training=False)[1]
    torch.testing.assert_close(only.boxes_cxcywh, last.boxes_cxcywh)
    torch.testing.assert_close(only.class_logits, last.class_logits)
