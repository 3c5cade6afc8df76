import pytest
import torch
from torch import nn

from insta_rtdetr.layers.attention import Attention


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_torchs(masked):
    torch.manual_seed(0)
    ours, theirs = Attention(8, 2).double(), nn.MultiheadAttention(8, 2, batch_first=True).double()
    nn.init.normal_(ours.in_proj_bias)
    nn.init.normal_(ours.out_proj.bias)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = (torch.randn(3, length, 8).double() for length in (4, 6, 6))
    visible = torch.rand(3, 4, 6) > 0.5
    visible[..., 0] = True
    hidden_for_each_head = ~visible.repeat_interleave(2, dim=0) if masked else None
    expected, _ = theirs(query, key, value, attn_mask=hidden_for_each_head)
    torch.testing.assert_close(ours(query, key, value, visible if masked else None), expected)
