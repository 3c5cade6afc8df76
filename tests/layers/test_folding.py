"""Folded modules give the same answers, in fewer operations."""

import pytest
import torch
from detectron2.layers import Conv2d, get_norm
from torch import nn

from insta_rtdetr.layers.conv import ConvNorm, CSPRepBlock, RepVGGBlock
from insta_rtdetr.layers.foldable import BATCH_NORMS, fold_, fold_batch_norm
from insta_rtdetr.modeling.encoder.mask_fusion import MaskFusion
from insta_rtdetr.modeling.head.mask_head import MaskHead, PrototypeMaskHead


def with_random_statistics(module: nn.Module) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, BATCH_NORMS):
            for name in ("weight", "running_var"):
                getattr(norm, name).data.uniform_(0.5, 1.5)
            for name in ("bias", "running_mean"):
                getattr(norm, name).data.normal_()
    return module.double().eval()


def with_scale(block: RepVGGBlock, scale: float) -> RepVGGBlock:
    nn.init.constant_(block.scale, scale)
    return block


def count(module: nn.Module, kind: type) -> int:
    return sum(isinstance(m, kind) for m in module.modules())


@pytest.mark.parametrize(
    ("module", "convolutions"),
    [
        (ConvNorm(4, 6, 3, stride=2, activation=nn.SiLU), 1),
        (RepVGGBlock(4, nn.SiLU), 1),
        (with_scale(RepVGGBlock(4, nn.SiLU, is_scaled=True), -0.7), 1),
        (CSPRepBlock(4, 6, num_blocks=2, expansion=0.5, activation=nn.SiLU), 4),
        (CSPRepBlock(4, 6, num_blocks=2, expansion=1.0, activation=nn.SiLU), 3),
    ],
)
def test_folded_block_is_the_same_function(module, convolutions):
    module = with_random_statistics(module)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    expected = module(x)
    fold_(module)
    torch.testing.assert_close(module(x), expected)
    assert count(module, nn.Conv2d) == convolutions
    assert count(module, nn.BatchNorm2d) == 0


@pytest.mark.parametrize("mask_dim", [6, 4])
def test_folded_mask_fusion_is_the_same_function(mask_dim):
    fusion = with_random_statistics(MaskFusion(5, 6, mask_dim, nn.SiLU))
    fine, level = torch.randn(1, 5, 8, 8).double(), torch.randn(1, 6, 4, 4).double()
    expected = fusion(fine, [level])
    fold_(fusion)
    torch.testing.assert_close(fusion(fine, [level]), expected)
    assert isinstance(fusion.projection, nn.Identity)


@pytest.mark.parametrize("head", [MaskHead(6, 5), PrototypeMaskHead(6, 5, 7), PrototypeMaskHead(6, 5, 5)])
def test_mask_projection_moves_from_the_pixels_to_the_queries(head):
    head = with_random_statistics(head)
    queries, features = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 4, 4).double()
    embeddings, _ = head.embed(queries)
    expected = torch.einsum("bqc,bchw->bqhw", embeddings, head.project(features))
    fold_(head)
    embeddings, biases = head.embed(queries)
    assert head.project(features) is features
    found = torch.einsum("bqc,bchw->bqhw", embeddings, features) + biases[..., None, None]
    torch.testing.assert_close(found, expected)


def test_fewer_prototypes_than_features_stay_with_the_pixels():
    head = PrototypeMaskHead(6, 5, 2)
    fold_(head)
    assert head.project(torch.randn(1, 5, 4, 4)).shape == (1, 2, 4, 4)
    assert head.embed(torch.randn(1, 3, 6))[1] is None


def test_other_norms_are_refused():
    with pytest.raises(TypeError, match="GroupNorm"):
        fold_batch_norm(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2))


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "GN"])
def test_batch_norms_of_detectron2s_convolutions_are_folded_and_group_norms_kept(norm):
    conv = Conv2d(3, 32, 3, bias=False, norm=get_norm(norm, 32), activation=torch.relu)
    conv = with_random_statistics(nn.Sequential(conv))
    x = torch.randn(1, 3, 8, 8).double()
    expected = conv(x)
    torch.testing.assert_close(fold_(conv)(x), expected)
    assert (conv[0].norm is None) == (norm != "GN")
