"""Neighbours have colours that differ, and an object of a video keeps its own."""

import numpy as np

from insta_rtdetr.visualization.colors import PALETTE, SHADES, ColorMemory, assign_colors, spread_color

ROWS, COLUMNS = 8, 10


def grid() -> np.ndarray:
    """Boxes of 10 x 10 pixels that touch one another: (ROWS * COLUMNS, 4), row by row."""
    y, x = np.mgrid[:ROWS, :COLUMNS].reshape(2, -1) * 10.0
    return np.stack([x, y, x + 10, y + 10], axis=1)


def test_neighbours_differ_and_all_colours_are_used():
    boxes = grid()
    colors = assign_colors(boxes, np.zeros(len(boxes), dtype=int), True)
    assert set(colors) == set(PALETTE)
    places = np.array([PALETTE.index(color) for color in colors]).reshape(ROWS, COLUMNS)
    for step in ((0, 1), (1, 0), (1, 1)):
        rows, columns = step
        assert (places[rows:, columns:] != places[: ROWS - rows, : COLUMNS - columns]).all()
    assert colors == assign_colors(boxes, np.zeros(len(boxes), dtype=int), True)


def test_of_several_classes_each_has_its_shades():
    boxes, classes = grid(), np.arange(ROWS * COLUMNS) % 2
    colors = assign_colors(boxes, classes, False)
    for class_id in (0, 1):
        shades = [spread_color(class_id, shade) for shade in range(len(SHADES))]
        assert {color for color, its in zip(colors, classes) if its == class_id} <= set(shades)
    assert colors[0] != colors[2 * COLUMNS] or colors[0] != colors[COLUMNS]


def test_no_objects_have_no_colours():
    assert assign_colors(np.zeros((0, 4)), np.zeros(0, dtype=int), True) == []


def test_an_object_keeps_its_colour_when_others_come_and_when_it_was_hidden():
    boxes, memory = grid()[:3], ColorMemory()
    zeros = np.zeros(4, dtype=int)
    first = memory.assign(boxes, zeros[:3], True)
    assert memory.assign(boxes[::-1] + 1, zeros[:3], True) == first[::-1]
    assert memory.assign(boxes[:0], zeros[:0], True) == []
    again = memory.assign(np.concatenate([boxes[:1] + 12, boxes]), zeros, True)
    assert again[1:] == first and again[0] not in first
    for _ in range(9):
        memory.assign(boxes[:0], zeros[:0], True)
    assert len(memory._colors) == 0


def test_an_object_of_another_class_is_another_object():
    boxes, memory = grid()[:1], ColorMemory()
    (first,) = memory.assign(boxes, np.array([0]), False)
    (second,) = memory.assign(boxes, np.array([1]), False)
    assert first == spread_color(0) and second == spread_color(1)
