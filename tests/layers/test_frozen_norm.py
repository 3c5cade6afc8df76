"""A convolution that computes the frozen norm behind it gives the same outputs and gradients, under the same names."""

import copy

import pytest
import torch
import torchvision
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from timm.layers import Conv2dSame
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import nn

from insta_rtdetr.layers.foldable import BATCH_NORMS, fold_
from insta_rtdetr.layers.traced_folding import fold_traced_, merge_frozen_norms_
from tests.layers.test_folding import with_random_statistics

MODELS = {
    "Detectron2's norm": nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, groups=2, bias=False), FrozenBatchNorm2d(6)),
    "torchvision's norm": nn.Sequential(nn.Conv2d(4, 6, 1), torchvision.ops.FrozenBatchNorm2d(6)),
    "timm's norm": nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), FrozenBatchNormAct2d(4)),
    "timm's convolution": nn.Sequential(Conv2dSame(4, 6, 3, 2, bias=False), FrozenBatchNormAct2d(6)),
    "Detectron2's convolution": nn.Sequential(
        Conv2d(4, 6, 3, bias=False, norm=FrozenBatchNorm2d(6), activation=torch.relu), nn.Identity()
    ),
}


def outputs_and_gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.requires_grad_()
    y = model(x)
    return [y, *torch.autograd.grad((y**2).sum(), [x, *model.parameters()])]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_gradients_and_names_stay(name):
    torch.manual_seed(0)
    model = with_random_statistics(copy.deepcopy(MODELS[name])).train()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    before, names = outputs_and_gradients(model, x), list(model.state_dict())
    merge_frozen_norms_(model)
    for found, expected in zip(outputs_and_gradients(model, x), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    assert list(model.state_dict()) == names
    # The norm is in the convolution: without its own pass nothing is left of it but the activation.
    assert type(model[0]) is not type(MODELS[name][0])


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_computes_with_its_own_norm_and_can_be_folded(name):
    torch.manual_seed(0)
    model = with_random_statistics(copy.deepcopy(MODELS[name]))
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    merge_frozen_norms_(model)
    expected, twin = model(x), copy.deepcopy(model)
    for norm in model.modules():
        if isinstance(norm, BATCH_NORMS):
            norm.bias += 1.0
    assert not torch.equal(model(x), expected)
    assert torch.equal(twin(x), expected)
    fold_traced_(fold_(twin))
    assert not any(isinstance(module, BATCH_NORMS) for module in twin.modules())
    torch.testing.assert_close(twin(x), expected, rtol=1e-11, atol=1e-11)


def test_norms_that_learn_are_left_alone():
    model = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), Conv2d(6, 6, 1, norm=nn.BatchNorm2d(6)))
    kinds = [type(module) for module in model.modules()]
    merge_frozen_norms_(model)
    assert [type(module) for module in model.modules()] == kinds
