import pytest
import torch

from insta_rtdetr.layers.deformable_attention import DeformableAttention, init_deformable_layers, sample_levels


def test_samples_are_read_from_the_right_level_head_and_place():
    sizes = [(2, 3), (1, 2)]
    value = torch.arange(8.0).view(1, 8, 1) + torch.tensor([0.0, 100.0])  # two heads of width 1
    locations = torch.zeros(1, 1, 2, 2, 1, 2)
    locations[..., 0, 0, :] = torch.tensor([0.5, 0.75])  # level 0: column 1, row 1 -> 4
    locations[..., 1, 0, :] = torch.tensor([0.75, 0.5])  # level 1: column 1, row 0 -> 7
    weights = torch.tensor([[[[0.25, 0.75], [1.0, 0.0]]]])
    assert sample_levels(value, locations, weights, sizes).tolist() == [[[0.25 * 4 + 0.75 * 7, 104.0]]]


def test_samples_outside_are_zero():
    locations = torch.full((1, 1, 1, 1, 1, 2), 2.0)
    assert sample_levels(torch.ones(1, 4, 1), locations, torch.ones(1, 1, 1, 1), [(2, 2)]).item() == 0


def test_initial_offsets_point_in_all_directions_and_scale_with_the_box():
    attention = DeformableAttention(dim=8, num_heads=4, num_levels=1, num_points=2)
    offsets = attention.sampling_offsets.bias.view(4, 1, 2, 2)
    expected = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    torch.testing.assert_close(offsets[:, 0, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(offsets[:, 0, 1], 2 * expected, atol=1e-6, rtol=0)


def test_a_box_for_each_level_is_where_that_level_is_read():
    sizes = [(4, 4), (2, 2)]
    attention = DeformableAttention(dim=2, num_heads=1, num_levels=2, num_points=1).double()
    for linear in (attention.value_proj, attention.output_proj):
        torch.nn.init.eye_(linear.weight)
    memory = torch.rand(1, 20, 2).double()
    # The offset of 1 to the right is half a box: one cell where boxes are two cells wide.
    boxes = torch.tensor([[[[0.375, 0.625, 0.5, 0.5], [0.25, 0.75, 1.0, 1.0]]]]).double()
    found = attention(torch.zeros(1, 1, 2).double(), boxes, memory, sizes)
    # Row 2, column 1 of the first level and row 1, column 0 of the second, each one cell further.
    expected = (memory[0, 2 * 4 + 1 + 1] + memory[0, 16 + 1 * 2 + 0 + 1]) / 2
    torch.testing.assert_close(found[0, 0], expected)


def test_transformer_layers_are_drawn_as_detr_does():
    attention = DeformableAttention(dim=8, num_heads=4, num_levels=1, num_points=2)
    layers = torch.nn.ModuleList([torch.nn.Linear(8, 800), attention])
    before = attention.sampling_offsets.bias.clone()
    init_deformable_layers(layers)
    limit = (6 / 808) ** 0.5
    assert 0.98 * limit < layers[0].weight.abs().max() <= limit
    assert torch.equal(attention.sampling_offsets.bias, before) and not attention.sampling_offsets.weight.any()


def test_width_must_fit_the_heads():
    with pytest.raises(ValueError, match=r"MODEL.DECODER.NUM_HEADS"):
        DeformableAttention(dim=10, num_heads=4, num_levels=1, num_points=2)
