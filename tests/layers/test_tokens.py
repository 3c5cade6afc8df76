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


@pytest.mark.parametrize("has_bias", [True, False])
def test_without_a_gradient_the_kernel_is_that_of_onednn(has_bias):
    x, weight, bias = torch.rand(2, 7, 8), torch.rand(5, 8), torch.rand(5) if has_bias else None
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile, torch.no_grad():
        found = tokens.project_tokens(x, weight, bias)
    assert "mkldnn::_linear_pointwise" in {event.name for event in profile.events()}
    torch.testing.assert_close(found, F.linear(x, weight, bias))


def test_numbers_that_are_repeated_without_a_copy_are_read_as_such():
    x, weight, bias = torch.rand(1, 1, 8).expand(2, 7, 8), torch.rand(1, 8).expand(5, 8), torch.rand(1).expand(5)
    with torch.no_grad():
        torch.testing.assert_close(tokens.project_tokens(x, weight, bias), F.linear(x, weight, bias))


def test_no_tokens_and_other_precisions_take_the_plain_way():
    assert tokens.project_tokens(torch.rand(1, 0, 8), torch.rand(5, 8), None).shape == (1, 0, 5)
    double = torch.rand(1, 3, 8).double()
    assert tokens.project_tokens(double, torch.rand(5, 8).double(), None).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert tokens.project_tokens(torch.rand(1, 3, 8), torch.rand(5, 8), None).dtype == torch.bfloat16


def test_pytorch_without_onednn_takes_the_plain_way(monkeypatch):
    monkeypatch.setattr(tokens, "ONEDNN_LINEAR", None)
    x, weight, bias = torch.rand(2, 7, 8), torch.rand(5, 8), torch.rand(5)
    with torch.no_grad():
        assert torch.equal(tokens.project_tokens(x, weight, bias), F.linear(x, weight, bias))


def test_linear_layers_of_other_packages_become_token_linear():
    model = torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.Sequential(torch.nn.Linear(5, 2)))
    x, state = torch.rand(1, 3, 8), model.state_dict()
    expected = model(x)
    tokens.use_token_linear(model)
    assert type(model[0]) is type(model[1][0]) is tokens.TokenLinear
    torch.testing.assert_close(model(x), expected)
    assert model.state_dict().keys() == state.keys()


def test_gradients_of_the_convolution_are_those_of_the_linear_layer(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    torch.manual_seed(0)
    linear = tokens.TokenLinear(8, 5)
    # More tokens than MIN_TOKENS in all images together.
    x = torch.rand(3, tokens.MIN_TOKENS // 2, 8, requires_grad=True)
    leaves = [x, linear.weight, linear.bias]
    weights = torch.rand(3, tokens.MIN_TOKENS // 2, 5)
    found, expected = linear(x), F.linear(x, linear.weight, linear.bias)
    assert "Convolution" in str([node for node, _ in _graph(found)])
    for got, wanted in zip(
        torch.autograd.grad(found, leaves, weights), torch.autograd.grad(expected, leaves, weights), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3)


def _graph(tensor: torch.Tensor) -> list:
    """The operations that a tensor was computed with."""
    nodes = [(tensor.grad_fn, 0)]
    for node, _ in nodes:
        nodes += [(parent, i) for parent, i in node.next_functions if parent is not None]
    return nodes


def test_a_traced_layer_is_a_matrix_product(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    program = torch.export.export(tokens.TokenLinear(8, 5), (torch.rand(2, tokens.MIN_TOKENS, 8),))
    assert "linear" in str(program.graph) and "conv" not in str(program.graph)
