"""Tests that accumulated gradients of several batches equal those of one large batch."""

import itertools

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from insta_rtdetr.engine.step import OptimizationStep
from tests.engine.predictable import IMAGES, gradients_of_step, predictable_model


@pytest.fixture
def model(monkeypatch) -> nn.Module:
    return predictable_model(monkeypatch)


@pytest.mark.parametrize("size", [1, 2])
def test_parts_have_the_gradient_and_the_losses_of_the_whole(model, size):
    whole, losses = gradients_of_step(model, [IMAGES])
    parts, losses_of_parts = gradients_of_step(model, [IMAGES[i : i + size] for i in range(0, len(IMAGES), size)])
    assert whole.keys() == parts.keys() and losses.keys() == losses_of_parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-6, atol=1e-8, msg=name)
    assert losses_of_parts == pytest.approx(losses, rel=1e-5)


def test_the_mean_of_gradients_by_themselves_would_be_another(model):
    whole, _ = gradients_of_step(model, [IMAGES])
    alone = [gradients_of_step(model, [IMAGES[:2]])[0], gradients_of_step(model, [IMAGES[2:]])[0]]
    name = "decoder.box_heads.2.layers.2.weight"
    assert not torch.allclose((alone[0][name] + alone[1][name]) / 2, whole[name], rtol=0.05)


def test_a_batch_that_is_not_finite_spoils_the_whole_step(model):
    broken = [dict(IMAGES[2], image=torch.full((3, 64, 64), float("nan")))]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with EventStorage():
        step = OptimizationStep(model, itertools.cycle([IMAGES[:2], broken]), optimizer, accumulation_steps=2)
        step.run_step()
    assert step.skipped and all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
