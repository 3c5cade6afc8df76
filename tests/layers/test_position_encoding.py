import math

import pytest
import torch

from insta_rtdetr.layers.position_encoding import (
    BoxPositionHead,
    box_position_encoding,
    grid_position_encoding,
    place_channels,
    sine_position_encoding,
)

CPU = torch.device("cpu")


def encode(height, width, order):
    return sine_position_encoding(height, width, 8, 100.0, order, CPU, torch.float32)


def test_code_of_a_position_by_hand():
    # Row 1, column 2 of a 3 x 4 map; frequencies 1 and 0.1.
    code = encode(3, 4, "row_major")[1 * 4 + 2]
    angles = torch.tensor([1.0, 0.1]), torch.tensor([2.0, 0.2])
    expected = torch.cat([angles[0].sin(), angles[0].cos(), angles[1].sin(), angles[1].cos()])
    torch.testing.assert_close(code, expected)


def test_orders_agree_on_squares_only():
    assert torch.equal(encode(5, 5, "row_major"), encode(5, 5, "column_major"))
    assert not torch.equal(encode(3, 5, "row_major"), encode(3, 5, "column_major"))
    # What the original adds at index i of a 3 x 5 map: first code i // 3, second code i % 3.
    assert torch.equal(encode(3, 5, "column_major")[7], encode(9, 9, "row_major")[2 * 9 + 1])


def test_codes_made_in_inference_mode_can_be_trained_with():
    with torch.inference_mode():
        encode(2, 7, "row_major")
    weight = torch.ones(8, requires_grad=True)
    (encode(2, 7, "row_major") * weight).sum().backward()


def test_bad_arguments_name_their_key():
    with pytest.raises(ValueError, match="HIDDEN_DIM"):
        sine_position_encoding(2, 2, 6, 100.0, "row_major", CPU, torch.float32)
    with pytest.raises(ValueError, match="POSITION_ORDER"):
        encode(2, 2, "diagonal")


def test_code_of_a_box_is_that_of_y_x_width_and_height():
    code = box_position_encoding(torch.tensor([0.25, 0.5, 1.0, 0.0], dtype=torch.float64), 4)
    angles = [math.pi, math.pi / 2, 2 * math.pi, 0.0]
    expected = [f(angle * scale) for angle in angles for scale in (1, 0.01) for f in (math.sin, math.cos)]
    assert code.tolist() == pytest.approx(expected)


def test_code_of_a_position_of_a_grid_is_that_of_its_row_and_column_from_1():
    code = grid_position_encoding(2, 4, 8, CPU, torch.float64)
    assert code.shape == (8, 8)
    # Row 1 of two, column 3 of four; frequencies 1 and 0.01.
    angles = [2 * math.pi * 1 / 2, 2 * math.pi * 3 / 4]
    expected = [f(angle * scale) for angle in angles for scale in (1, 0.01) for f in (math.sin, math.cos)]
    assert code[0 * 4 + 2].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_position_head_reads_the_code_of_its_box():
    head = BoxPositionHead(8)
    torch.nn.init.eye_(head.layers[0].weight)
    torch.nn.init.eye_(head.layers[1].weight)
    for layer in head.layers:
        torch.nn.init.zeros_(layer.bias)
    boxes = torch.rand(2, 3, 4)
    torch.testing.assert_close(head(boxes), box_position_encoding(boxes, 4)[..., :8].relu())


def test_places_go_from_minus_one_to_one():
    x, y = place_channels(torch.zeros(2, 3, 3, 5))[1]
    assert x[0].tolist() == [-1, -0.5, 0, 0.5, 1] and y[:, 0].tolist() == [-1, 0, 1]
    assert torch.equal(x, x[:1].expand(3, 5)) and torch.equal(y, y[:, :1].expand(3, 5))
    assert place_channels(torch.zeros(1, 3, 1, 1)).isfinite().all()
