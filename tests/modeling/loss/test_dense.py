import pytest
import torch

from insta_rtdetr.modeling.loss.dense import assign_positions
from tests.tiny import tiny_mask_rtdetr, tiny_model, training_input


def test_each_object_gets_its_cheapest_positions_and_a_shared_one_goes_to_the_cheaper():
    cost = torch.tensor([[0.1, 0.9], [0.2, 0.1], [0.9, 0.3], [0.8, 0.8]])
    match = assign_positions([cost], per_object=2)
    # Position 1 is the best of both objects, at the cost 0.2 for object 0 and 0.1 for object 1.
    assert list(zip(match.query.tolist(), match.object.tolist(), strict=True)) == [(0, 0), (1, 1), (2, 1)]


def test_images_without_objects_have_no_pairs_and_infinite_costs_no_say():
    cost = torch.tensor([[torch.nan], [3.0], [torch.inf]])
    match = assign_positions([torch.zeros(3, 0), cost], per_object=1)
    assert (match.image.tolist(), match.query.tolist(), match.object.tolist()) == ([1], [1], [0])


@pytest.mark.parametrize("build", [tiny_model, tiny_mask_rtdetr])
def test_all_positions_learn_classes_and_boxes_and_the_encoder_leaves_its_classes_to_them(build):
    model = build("MODEL.LOSS.DENSE_POSITIONS", 4)
    losses = model([training_input(3)])
    names = ("loss_vfl_dense", "loss_bbox_dense", "loss_giou_dense")
    assert {name for name in losses if name.endswith("_dense")} == set(names)
    assert "loss_vfl_enc" not in losses and "loss_bbox_enc" in losses
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_predictions_of_all_positions_hold_those_of_the_queries():
    model = tiny_model("MODEL.LOSS.DENSE_POSITIONS", 4, "MODEL.DECODER.NUM_QUERIES", 20)
    inputs = [training_input(2)]
    batch = model.preprocessor(inputs)
    output = model.run_network(batch.images, model.preprocessor.targets(inputs, batch.sizes))
    everywhere = output.dense
    assert everywhere.class_logits.shape[1] == 8 * 8 + 4 * 4 + 2 * 2
    best = everywhere.class_logits.amax(-1).topk(20).indices[0]
    torch.testing.assert_close(everywhere.boxes_cxcywh[0, best], output.encoder.boxes_cxcywh[0])


def test_nothing_is_computed_for_all_positions_in_eval_mode():
    model = tiny_model("MODEL.LOSS.DENSE_POSITIONS", 4).eval()
    assert model.run_network(torch.rand(1, 3, 64, 64)).dense is None
