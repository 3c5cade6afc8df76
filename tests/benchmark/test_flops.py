"""Multiply-adds against numbers worked out by hand."""

import torch
from torch import nn

from insta_rtdetr.benchmark.flops import count_multiply_adds


def test_a_convolution_is_outputs_times_kernel():
    conv, image = nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 10, 12)
    assert count_multiply_adds(lambda: conv(image)) == (8 * 10 * 12) * (3 * 3 * 3)


def test_a_linear_layer_is_rows_times_weights():
    linear = nn.Linear(4, 5)
    assert count_multiply_adds(lambda: linear(torch.zeros(7, 4))) == 7 * 4 * 5


def test_attention_counts_its_projections_and_its_two_products():
    dim, tokens = 8, 6
    attention = nn.MultiheadAttention(dim, num_heads=2, batch_first=True).eval()
    x = torch.zeros(1, tokens, dim)
    count = count_multiply_adds(lambda: attention(x, x, x, need_weights=False))
    assert count == 4 * tokens * dim**2 + 2 * tokens**2 * dim


def test_what_is_no_product_counts_nothing():
    norm = nn.BatchNorm2d(3).eval()
    assert count_multiply_adds(lambda: norm(torch.zeros(1, 3, 4, 4)).relu()) == 0
