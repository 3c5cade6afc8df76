"""Batch norms are found and folded in models whose forward pass nobody told us about."""

import pytest
import timm
import torch
from detectron2.layers import FrozenBatchNorm2d
from timm.layers import Conv2dSame, StdConv2d
from timm.utils.model import freeze_batch_norm_2d
from torch import Tensor, nn

from insta_rtdetr.layers.foldable import BATCH_NORMS
from insta_rtdetr.layers.traced_folding import convolutions_with_norms, fold_traced_
from tests.layers.test_folding import with_random_statistics


class Model(nn.Module):
    """Two convolutions of one norm each; a subclass says what becomes of the first one's output."""

    def __init__(self, conv: nn.Module | None = None, norm: nn.Module | None = None):
        super().__init__()
        self.conv1, self.norm1 = conv or nn.Conv2d(3, 3, 1), norm or nn.BatchNorm2d(3)
        self.conv2, self.norm2 = nn.Conv2d(3, 3, 3, groups=3), FrozenBatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))


class ReadTwice(Model):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        return self.norm2(self.conv2(self.norm1(y) + y))


class GivenBack(Model):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv1(x)
        return self.norm2(self.conv2(self.norm1(y))), y


class SharedConvolution(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.norm1(self.conv1(self.conv1(x)))))


class SharedNorm(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.norm1(self.norm1(self.conv1(x)))))


class DependsOnData(Model):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


SECOND = [("conv2", "norm2")]
BOTH = [("conv1", "norm1"), *SECOND]


@pytest.mark.parametrize(
    ("model", "pairs"),
    [
        (Model(), BOTH),
        (Model(Conv2dSame(3, 3, 3, stride=2)), BOTH),
        (ReadTwice(), SECOND),
        (GivenBack(), SECOND),
        (SharedConvolution(), SECOND),
        (SharedNorm(), SECOND),
        (DependsOnData(), []),
        # Its forward pass computes with another kernel than its weight.
        (Model(StdConv2d(3, 3, 1)), SECOND),
        (Model(norm=nn.BatchNorm2d(3, affine=False)), SECOND),
        (Model(norm=nn.BatchNorm2d(3, track_running_stats=False)), SECOND),
        (Model(norm=nn.GroupNorm(1, 3)), SECOND),
    ],
)
def test_a_norm_is_folded_only_into_a_convolution_that_is_its_own(model, pairs):
    assert convolutions_with_norms(model.eval()) == pairs


@pytest.mark.parametrize("kind", [Model, ReadTwice, GivenBack, SharedConvolution, SharedNorm, DependsOnData])
def test_folded_model_is_the_same_function(kind):
    torch.manual_seed(0)
    model = with_random_statistics(kind())
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    expected = model(x)
    fold_traced_(model)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize(
    ("name", "arguments", "num_left"),
    [
        ("mobilenetv2_050", {}, 0),
        ("mobilenetv2_050", {"pad_type": "same"}, 0),
        ("regnetx_002", {}, 0),
        ("resnet18", {}, 0),
        # Its norms come before its convolutions: none of the 62 behind a concatenation can go.
        ("densenet121", {}, 62),
    ],
)
def test_folded_timm_model_is_the_same_function(name, arguments, num_left, freeze):
    torch.manual_seed(0)
    body = timm.create_model(name, features_only=True, **arguments)
    body = with_random_statistics(freeze_batch_norm_2d(body) if freeze else body)
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    expected = body(x)
    fold_traced_(body)
    assert sum(isinstance(module, BATCH_NORMS) for module in body.modules()) == num_left
    for found, wanted in zip(body(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max().item())
