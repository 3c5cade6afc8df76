import torch

from insta_rtdetr.modeling.head import DeformableDecoder, MaskHead
from insta_rtdetr.structures import Memory, Queries

DIM = 16
LEVEL_SIZES = [(4, 4), (2, 2)]


def decoder(num_layers: int = 3, eval_layers: int = 0, **options) -> DeformableDecoder:
    torch.manual_seed(0)
    built = DeformableDecoder(
        dim=DIM, num_classes=3, num_layers=num_layers, eval_layers=eval_layers, num_heads=2, num_levels=2, num_points=2,
        feedforward_dim=8, dropout=0.0, mask_head=MaskHead(DIM, 8), **options,
    )  # fmt: skip
    for head in built.box_heads:
        # The box heads start with zeros, which would hide errors that depend on the boxes.
        torch.nn.init.normal_(head.layers[-1].weight)
    return built


def decode(model: DeformableDecoder):
    queries = Queries(torch.rand(2, 5, DIM), torch.randn(2, 5, 4))
    return model(queries, Memory(torch.rand(2, 20, DIM), LEVEL_SIZES), torch.rand(2, 8, 6, 6))


def test_each_layer_answers_in_training_and_only_the_last_that_runs_otherwise():
    layers = decode(decoder())
    assert len(layers) == 3
    assert layers[0].class_logits.shape == (2, 5, 3) and layers[0].mask_logits.shape == (2, 5, 6, 6)
    assert len(decode(decoder().eval())) == len(decode(decoder(eval_layers=1).eval())) == 1


def test_a_layer_does_not_teach_the_layers_before_it_where_to_send_it():
    model = decoder()
    decode(model)[1].class_logits.sum().backward()
    assert all(p.grad is None for p in model.box_heads[0].parameters())


def test_a_box_is_refined_from_the_box_before_it_which_learns_from_that():
    model = decoder()
    decode(model)[1].boxes_cxcywh.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.box_heads[0].parameters())


def test_relative_boxes_are_refined_in_units_of_their_sides():
    model = decoder(relative_boxes=True)
    head = model.box_heads[0].layers[-1]
    head.weight.data.zero_()
    head.bias.data = torch.tensor([0.5, -0.5, 0.0, 1.0])
    box = torch.tensor([[[0.5, 0.5, 0.2, 0.1]]])
    answered, passed_on = model.refine(0, torch.rand(1, 1, DIM), box)
    torch.testing.assert_close(answered[0, 0], torch.tensor([0.6, 0.45, 0.2, 0.1 * 2.718281828]))
    assert answered is passed_on
