import math

import pytest
import torch
from torch import nn

from insta_rtdetr.engine.ema import ModelEMA
from insta_rtdetr.errors import UserError


def model_of(value: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    model[0].weight.data.fill_(value)
    return model


def test_average_follows_the_formula():
    model = model_of(1.0)
    ema = ModelEMA(model, decay=0.9, ramp_iters=2)
    expected_weight, expected_mean = 1.0, 0.0
    for update, value in enumerate((3.0, -5.0, 2.0), start=1):
        model[0].weight.data.fill_(value)
        model[1].running_mean.fill_(value)
        model[1].num_batches_tracked.fill_(update)
        ema.update(model)
        decay = 0.9 * (1 - math.exp(-update / 2))
        expected_weight = decay * expected_weight + (1 - decay) * value
        expected_mean = decay * expected_mean + (1 - decay) * value
    state = ema.state_dict()
    assert state["updates"] == 3
    assert state["model"]["0.weight"].item() == pytest.approx(expected_weight, rel=1e-6)
    assert state["model"]["1.running_mean"].item() == pytest.approx(expected_mean, rel=1e-6)
    assert state["model"]["1.num_batches_tracked"].item() == 3
    assert not state["model"]["0.weight"].requires_grad


def test_state_goes_round():
    model = model_of(1.0)
    ema = ModelEMA(model, 0.9, 2)
    model[0].weight.data.fill_(4.0)
    ema.update(model)
    other = ModelEMA(model_of(0.0), 0.9, 2)
    other.load_state_dict(ema.state_dict())
    ema.update(model)
    other.update(model)
    assert other.updates == 2
    for name, tensor in ema.state_dict()["model"].items():
        assert torch.equal(tensor, other.state_dict()["model"][name])


def test_state_of_another_model_is_refused():
    ema = ModelEMA(model_of(1.0), 0.9, 2)
    with pytest.raises(UserError, match=r"for example 0\.bias \(found \(2,\), wanted None\)"):
        ema.load_state_dict({"model": nn.Sequential(nn.Linear(3, 2)).state_dict(), "updates": 1})


def test_weights_are_back_after_use_and_after_errors():
    model = model_of(1.0)
    ema = ModelEMA(model, 0.9, 2)
    model[0].weight.data.fill_(7.0)
    weight = model[0].weight
    with ema.applied(model):
        assert model[0].weight.item() == 1.0
    assert model[0].weight.item() == 7.0
    with pytest.raises(RuntimeError, match="inside"), ema.applied(model):
        raise RuntimeError("inside")
    assert model[0].weight is weight and weight.item() == 7.0


def test_restart_forgets():
    model = model_of(1.0)
    ema = ModelEMA(model, 0.9, 2)
    ema.update(model)
    model[0].weight.data.fill_(9.0)
    ema.restart(model)
    assert ema.updates == 0 and ema.state_dict()["model"]["0.weight"].item() == 9.0
