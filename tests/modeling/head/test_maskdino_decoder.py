import pytest
import torch

from insta_rtdetr.modeling.head import MaskDINODecoder, PrototypeMaskHead
from insta_rtdetr.structures import Memory, Queries

DIM = 8


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    decoder = MaskDINODecoder(
        dim=DIM, num_classes=3, num_layers=2, eval_layers=0, num_heads=2, num_levels=2, num_points=2,
        feedforward_dim=8, dropout=0.0, mask_head=PrototypeMaskHead(DIM, DIM, 6),
    )  # fmt: skip
    torch.nn.init.normal_(decoder.box_head.layers[-1].weight)
    torch.nn.init.uniform_(decoder.norm.weight, 0.5, 1.5)
    return decoder


def inputs():
    torch.manual_seed(1)
    memory = Memory(torch.randn(2, 20, DIM), [(4, 4), (2, 2)])
    return Queries(torch.randn(2, 5, DIM), torch.randn(2, 5, 4)), memory


def test_heads_read_queries_normalised_twice_and_boxes_those_normalised_once(decoder):
    queries, memory = inputs()
    first, second, _ = decoder(queries, memory, None)
    torch.testing.assert_close(first.class_logits, decoder.class_head(decoder.norm(queries.content)))
    start = queries.reference_logits.sigmoid()
    content = decoder.layers[0](queries.content, decoder.position_head(start), start, memory)
    once = decoder.norm(content)
    torch.testing.assert_close(second.class_logits, decoder.class_head(decoder.norm(once)))
    torch.testing.assert_close(second.boxes_cxcywh, (decoder.box_head(once) + queries.reference_logits).sigmoid())


def test_the_next_layer_starts_from_boxes_of_queries_as_they_are(decoder):
    queries, memory = inputs()
    starts = []
    decoder.layers[1].register_forward_pre_hook(lambda layer, arguments: starts.append(arguments[2]))
    decoder(queries, memory, None)
    start = queries.reference_logits.sigmoid()
    content = decoder.layers[0](queries.content, decoder.position_head(start), start, memory)
    torch.testing.assert_close(starts[0], (decoder.box_head(content) + queries.reference_logits).sigmoid())
    assert not starts[0].requires_grad


def test_layers_compute_in_full_precision_and_heads_in_mixed(decoder):
    queries, memory = inputs()
    dtypes = set()
    for layer in decoder.layers:
        layer.linear1.register_forward_hook(lambda linear, arguments, output: dtypes.add(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = decoder(queries, memory, torch.randn(2, 6, 4, 4))
    assert dtypes == {torch.float32}
    assert {prediction.class_logits.dtype for prediction in predictions} == {torch.bfloat16}
