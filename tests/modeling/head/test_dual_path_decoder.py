import pytest
import torch

from insta_rtdetr.modeling.head import DualPathDecoder, QueryMaskHead
from insta_rtdetr.modeling.head.dual_path_decoder import predicted_visibility, target_visibility
from insta_rtdetr.structures import LocatedQueries, Match, Prediction, Target


def decoder(**changes):
    torch.manual_seed(0)
    options = {
        "dim": 8, "num_classes": 3, "num_layers": 2, "eval_layers": 0, "num_heads": 2, "feedforward_dim": 16,
        "mask_dim": 4, "num_aux_queries": 2, "position_side": 3,
    }  # fmt: skip
    return DualPathDecoder(**options | changes)


def queries(num_images=2, num_queries=5):
    generator = torch.Generator().manual_seed(1)
    return LocatedQueries(*(torch.rand(num_images, num_queries, size, generator=generator) for size in (8, 8, 2)))


def test_training_gives_a_prediction_before_the_first_and_after_each_layer():
    predictions, states = decoder()(queries(), torch.rand(2, 8, 4, 6))
    assert len(predictions) == 3 and len(states) == 2
    for prediction in predictions:
        assert prediction.class_logits.shape == (2, 5, 4)
        assert prediction.mask_logits.shape == (2, 5, 4, 6)
    assert states[0].queries.shape == (2, 7, 8) and states[0].pixels.shape == (2, 24, 8)


def test_eval_gives_the_last_wanted_layer():
    pixel_map = torch.rand(2, 8, 4, 6)
    whole, first = decoder(), decoder(eval_layers=1).eval()
    expected, _ = whole(queries(), pixel_map)
    for network, layer in ((whole.eval(), 2), (first, 1)):
        (found,), _ = network(queries(), pixel_map)
        torch.testing.assert_close(found.class_logits, expected[layer].class_logits)
        torch.testing.assert_close(found.mask_logits, expected[layer].mask_logits)
    with pytest.raises(ValueError, match=r"MODEL.DECODER.EVAL_LAYERS must be from 0 to NUM_LAYERS, which is 2, got 3"):
        decoder(eval_layers=3)


def test_guided_layers_see_what_they_are_shown():
    network = decoder()
    _, states = network(queries(), torch.rand(2, 8, 4, 6))
    everything = torch.ones(2, 5, 24, dtype=torch.bool)
    nothing = torch.zeros_like(everything)
    part = everything.clone()
    part[:, :, 3:] = False
    by_everything, by_nothing, by_part = (
        network.predict_guided(states, shown)[0].class_logits for shown in (everything, nothing, part)
    )
    assert torch.equal(by_everything, by_nothing)  # queries that would see nothing see everything
    assert not torch.allclose(by_everything, by_part)


def test_an_image_does_not_depend_on_the_others():
    network, both, pixel_map = decoder().eval(), queries(), torch.rand(2, 8, 4, 6)
    second = LocatedQueries(both.content[1:], both.positions[1:], both.points[1:])
    (together,), _ = network(both, pixel_map)
    (alone,), _ = network(second, pixel_map[1:])
    torch.testing.assert_close(alone.class_logits[0], together.class_logits[1])


def test_no_auxiliary_queries_work():
    predictions, _ = decoder(num_aux_queries=0)(queries(), torch.rand(2, 8, 4, 6))
    assert predictions[-1].class_logits.shape == (2, 5, 4)


def test_mask_projection_is_that_of_the_pixels():
    torch.manual_seed(0)
    head, features = QueryMaskHead(6, 5).double(), torch.randn(2, 6, 3, 4).double()
    embeddings, biases = head(torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(2)).double())
    query = head.embedding(torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(2)).double())
    expected = torch.einsum("bqc,bchw->bqhw", query, head.projection(features.movedim(1, -1)).movedim(-1, 1))
    found = Prediction(torch.zeros(2, 7, 1), None, embeddings, features, biases).mask_logits
    torch.testing.assert_close(found, expected)


def test_masks_are_where_logits_are_not_negative():
    features = torch.tensor([[[[-1.0, 0.0, 2.0]]]])
    prediction = Prediction(torch.zeros(1, 1, 1), None, torch.ones(1, 1, 1), features)
    assert predicted_visibility(prediction).tolist() == [[[False, True, True]]]


def test_matched_queries_are_shown_their_objects_and_others_everything():
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = masks[0, 1, 1] = True  # the second pixel is not sampled at half the size
    masks[1, 2:, 2:] = True
    targets = [Target(torch.zeros(2), torch.zeros(2, 4), masks), Target(torch.zeros(0), torch.zeros(0, 4), masks[:0])]
    match = Match(torch.tensor([0, 0]), torch.tensor([2, 0]), torch.tensor([0, 1]))
    shown = target_visibility(match, targets, 3, (2, 2)).int().tolist()
    assert shown == [[[0, 0, 0, 1], [1] * 4, [1, 0, 0, 0]], [[1] * 4] * 3]
