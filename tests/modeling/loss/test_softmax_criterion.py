import math

import pytest
import torch

from insta_rtdetr.modeling.loss import SoftmaxCriterion
from insta_rtdetr.structures import ModelOutput, Prediction, Target
from tests.tiny import tiny_fastinst, tiny_fastinst_config, training_input


@pytest.mark.parametrize("num_objects", [(0, 0), (0, 3), (130, 1)])
def test_every_parameter_gets_a_finite_gradient_from_any_batch(num_objects):
    """Without this, DDP would hang unless find_unused_parameters were set."""
    model = tiny_fastinst()
    losses = model([training_input(n, 64, 96, seed=n) for n in num_objects])
    # The losses are those of three guided layers, the queries before the first layer, three layers and the proposals.
    assert set(losses) == {
        name + suffix
        for name in ("loss_ce", "loss_mask", "loss_dice")
        for suffix in ("", *(f"_{i}" for i in range(6)))
    } | {"loss_proposal"}  # fmt: skip
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_without_objects_only_class_losses_are_left():
    losses = tiny_fastinst()([training_input(0)])
    assert all((loss > 0) == name.startswith(("loss_ce", "loss_proposal")) for name, loss in losses.items())


def test_class_losses_are_the_weighted_means_by_hand():
    criterion = SoftmaxCriterion(tiny_fastinst_config("MODEL.NUM_CLASSES", 2))
    logits = torch.zeros(1, 2, 3)  # every class of query 0 has probability 1/3
    logits[0, 1] = torch.tensor([0.0, 0.0, math.log(2.0)])  # the classes of query 1 have 1/4, 1/4 and 1/2
    prediction = Prediction(
        logits, None, torch.zeros(1, 2, 1), torch.zeros(1, 1, 2, 2), query_points=torch.full((1, 2, 2), 0.25)
    )
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, :2] = True
    target = Target(torch.tensor([1]), torch.zeros(1, 4), mask)
    proposals = torch.zeros(1, 3, 2, 2)
    losses = criterion(ModelOutput([prediction], proposal_logits=proposals), [target])
    # Query 0 is matched with the object; query 1, "no object", has a weight of 0.1.
    expected = (math.log(3) + 0.1 * math.log(2)) / 1.1
    assert losses["loss_ce"].item() == pytest.approx(2 * expected, rel=1e-5)
    assert losses["loss_proposal"].item() == pytest.approx(20 * math.log(3), rel=1e-5)
    assert losses["loss_mask"].item() == pytest.approx(5 * math.log(2), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_training_keeps_losses_in_float32(dtype):
    model = tiny_fastinst()
    with torch.autocast("cpu", dtype=dtype):
        losses = model([training_input(2), training_input(0)])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())


def test_huge_logits_in_half_precision_give_finite_losses():
    criterion = SoftmaxCriterion(tiny_fastinst_config())
    prediction = Prediction(
        torch.full((1, 4, 6), 6e4).half(), None, torch.full((1, 4, 2), -300.0).half(),
        torch.full((1, 2, 8, 8), 300.0).half(), torch.zeros(1, 4).half(), torch.rand(1, 4, 2),
    )  # fmt: skip
    target = Target(torch.tensor([1]), torch.zeros(1, 4), torch.ones(1, 64, 64, dtype=torch.bool))
    losses = criterion(ModelOutput([prediction], proposal_logits=torch.full((1, 6, 4, 4), -6e4).half()), [target])
    assert all(loss.isfinite() for loss in losses.values())


def test_data_without_masks_is_refused():
    inputs = training_input(2)
    inputs["instances"].remove("gt_masks")
    with pytest.raises(ValueError, match="FastInst learns from masks"):
        tiny_fastinst()([inputs])
