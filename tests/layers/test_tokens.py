import pytest
import torch
import torch.nn.functional as F

from insta_rtdetr.layers import tokens


@pytest.mark.parametrize("length", [3, tokens.MIN_TOKENS])
def test_the_way_through_a_convolution_is_the_same_map(length, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    x, weight, bias = torch.rand(2, length, 8), torch.rand(5, 8), torch.rand(5)
    with torch.no_grad():
        torch.testing.assert_close(tokens.project_tokens(x, weight, bias), F.linear(x, weight, bias))
        strided = torch.rand(2, 8, length).transpose(1, 2)
        torch.testing.assert_close(tokens.project_tokens(strided, weight, bias), F.linear(strided, weight, bias))
