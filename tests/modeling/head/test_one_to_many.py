import pytest
import torch

from insta_rtdetr.modeling.head.one_to_many import extend_attention_mask, split_queries
from insta_rtdetr.modeling.loss.matcher import assign
from insta_rtdetr.structures import Prediction
from tests.tiny import tiny_mask_rtdetr, tiny_model, training_input

CPU = torch.device("cpu")
KEY = "MODEL.DECODER.NUM_ONE_TO_MANY_QUERIES"


def test_added_queries_see_each_other_alone_and_are_not_seen():
    blocked = extend_attention_mask(torch.tensor([[False, True], [False, False]]), 2, 2, CPU)
    assert blocked.int().tolist() == [[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert extend_attention_mask(None, 1, 1, CPU).int().tolist() == [[0, 1], [1, 0]]


def test_predictions_are_split_in_the_order_of_the_parts():
    layer = Prediction(torch.arange(5.0).view(1, 5, 1))
    parts = split_queries([layer, layer], [2, 3])
    assert [[one.class_logits.flatten().tolist() for one in part] for part in parts] == [[[0, 1]] * 2, [[2, 3, 4]] * 2]


def test_an_object_is_matched_with_as_many_queries_as_it_is_repeated():
    cost = torch.tensor([[0.0, 9.0], [1.0, 9.0], [2.0, 9.0], [9.0, 0.0], [9.0, 1.0]])[None]
    (match,) = assign([cost, torch.zeros(1, 5, 0)], CPU, repeats=2)
    assert match.query.tolist() == [0, 1, 3, 4] and match.object.tolist() == [0, 0, 1, 1]
    # There are fewer queries than wanted, so all are matched.
    (match,) = assign([cost[:, :3]], CPU, repeats=2)
    assert match.query.tolist() == [0, 1, 2] and sorted(match.object.tolist()) == [0, 0, 1]


@pytest.mark.parametrize("build", [tiny_model, tiny_mask_rtdetr])
@pytest.mark.parametrize("num_objects", [0, 3])
def test_every_layer_learns_from_the_crowd(build, num_objects):
    model = build(KEY, 10)
    losses = model([training_input(num_objects)])
    plain = build()([training_input(num_objects)])
    added = losses.keys() - plain.keys()
    assert {name.replace("_many", "_dn") for name in added} == {name for name in plain if "_dn" in name}
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_other_queries_answer_as_without_the_crowd():
    answers = []
    for number in (0, 10):
        model = tiny_model(KEY, number, "MODEL.RESNETS.NORM", "FrozenBN", "MODEL.DENOISING.NUM_QUERIES", 0)
        inputs = [training_input(3)]
        batch = model.preprocessor(inputs)
        output = model.run_network(batch.images, model.preprocessor.targets(inputs, batch.sizes))
        assert (output.one_to_many is None) == (number == 0)
        answers.append(output.layers[-1])
    torch.testing.assert_close(answers[0].class_logits, answers[1].class_logits)
    torch.testing.assert_close(answers[0].boxes_cxcywh, answers[1].boxes_cxcywh)
