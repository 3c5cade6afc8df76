import pytest
import torch
from torch import Tensor

from insta_rtdetr.layers.conv import ConvNorm


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("later_tokens", [0, 7])
def test_one_image_has_the_gradient_it_has_among_others(training, layout, later_tokens):
    """Twice the same image: the same statistics, the same mean loss."""
    torch.manual_seed(0)
    block = ConvNorm(3, 16, 1, activation=torch.nn.SiLU).double().train(training)
    image = torch.randn(1, 3, 8, 6, dtype=torch.float64)
    factors = torch.randn(48 + later_tokens, 16, dtype=torch.float64)

    def gradients(batch: int) -> list[Tensor]:
        block.zero_grad()
        maps = block(image.repeat(batch, 1, 1, 1).contiguous(memory_format=layout))
        tokens = torch.cat([maps.flatten(2).transpose(1, 2), maps.new_zeros(batch, later_tokens, 16)], dim=1)
        ((tokens * factors).sum() / batch).backward()
        return [parameter.grad.clone() for parameter in block.parameters()]

    for alone, among_others in zip(gradients(1), gradients(2), strict=True):
        torch.testing.assert_close(alone, among_others)
