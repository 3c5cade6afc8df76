"""Labels are where they hide nothing."""

import numpy as np
import pytest

from insta_rtdetr.visualization.labels import CROWD, draw_labels, font_size, text_color

HEIGHT, WIDTH = 400, 600
COLOR = (255, 221, 51)
GREY = np.full((HEIGHT, WIDTH, 3), 100, dtype=np.uint8)


def labelled(boxes, texts=("nucleus 91%", "91%"), of_one_class: bool = False) -> np.ndarray:
    """Whether a pixel is part of a label: (H, W)."""
    boxes = np.array(boxes, dtype=float).reshape(-1, 4)
    drawn = draw_labels(GREY, boxes, [texts] * len(boxes), [COLOR] * len(boxes), of_one_class)
    return (drawn != GREY).any(axis=2)


def crowd(size: int, step: int) -> np.ndarray:
    """Boxes of one size in rows, (N, 4)."""
    y, x = np.mgrid[20 : HEIGHT - size : step, 20 : WIDTH - size : step].reshape(2, -1)
    return np.stack([x, y, x + size, y + size], axis=1)


def share_hidden(labels: np.ndarray, boxes: np.ndarray) -> float:
    return max(labels[top:bottom, left:right].mean() for left, top, right, bottom in boxes.tolist())


def test_a_small_object_has_its_label_beside_it():
    labels = labelled([[300, 200, 310, 210]])
    assert labels.sum() > 500 and not labels[200:210, 300:310].any()
    assert labels[150:200, 290:400].any()


@pytest.mark.parametrize("corner", [(0, 0), (590, 0), (0, 390), (590, 390)])
def test_a_label_stays_in_the_image_and_off_its_object(corner):
    x, y = corner
    labels = labelled([[x, y, x + 10, y + 10]])
    assert labels.sum() == pytest.approx(labelled([[300, 200, 310, 210]]).sum(), rel=0.1)
    assert labels[y : y + 10, x : x + 10].mean() <= 0.2


def test_labels_in_a_crowd_hide_no_object():
    for size, step in ((14, 16), (30, 32), (90, 95)):
        boxes = crowd(size, step)
        assert len(boxes) > CROWD
        labels = labelled(boxes)
        assert share_hidden(labels, boxes) < 0.3  # 0.2 each, of at most a few labels
        assert labels.any() == (size > 14)


def test_a_crowd_of_one_class_has_labels_only_where_most_have_place():
    assert labelled(crowd(40, 60), of_one_class=False).any()
    assert not labelled(crowd(40, 60), of_one_class=True).any()
    assert labelled(crowd(90, 120), of_one_class=True).any()


def test_no_objects_and_tiny_images():
    assert not labelled([]).any()
    tiny = np.zeros((8, 8, 3), dtype=np.uint8)
    assert draw_labels(tiny, np.array([[1.0, 1, 3, 3]]), [("nucleus 91%",)], [COLOR]).shape == (8, 8, 3)


def test_letters_grow_with_the_image_and_are_seen_on_any_colour():
    assert font_size(GREY) == 11 and font_size(np.zeros((2000, 3000, 3), dtype=np.uint8)) > 30
    assert text_color((255, 221, 51)) == "black" and text_color((20, 40, 160)) == "white"
