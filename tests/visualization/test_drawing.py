"""Drawn objects: masks or boxes, the best one on top, enlarged."""

import numpy as np

from insta_rtdetr.visualization import ColorMemory, MaskCrop, Objects, draw_objects
from insta_rtdetr.visualization.colors import PALETTE, spread_color
from tests.predict.conftest import noise

HEIGHT, WIDTH = 200, 300
BOXES = np.array([[20.0, 30, 180, 160], [100, 40, 280, 180]])
LEFT, RIGHT = (100, 50), (100, 250)  # (y, x) in one of the objects


def objects(has_masks: bool = True, class_ids=(0, 0), names=("nucleus",), track_ids=None) -> Objects:
    masks = []
    for left, top, right, bottom in BOXES.astype(int):
        masks.append(np.zeros((HEIGHT, WIDTH), dtype=bool))
        masks[-1][top:bottom, left:right] = True
    crops = [MaskCrop.of(mask) for mask in masks] if has_masks else None
    return Objects(BOXES, np.array(class_ids), np.array([0.999, 0.5]), names, crops, track_ids)


def tint(drawn: np.ndarray, y: int, x: int) -> np.ndarray:
    """What the mask's colour makes of a black pixel, divided by its opacity."""
    return drawn[y, x] / 0.42


def test_the_best_is_on_top_and_the_image_stays_as_it_was():
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    drawn = draw_objects(image, objects())
    assert (image == 0).all()
    assert np.abs(tint(drawn, *LEFT) - PALETTE[0]).max() < 3 and np.abs(tint(drawn, *RIGHT) - PALETTE[1]).max() < 3
    edge = drawn[60:150, 178:182, 2]  # blue of the first one's right edge, which the second one, orange, does not cover
    assert (edge.max(axis=1) > 150).all()


def test_boxes_are_drawn_where_there_are_no_masks():
    drawn = draw_objects(noise(0, HEIGHT, WIDTH), objects(has_masks=False))
    assert (drawn[100, 20] == PALETTE[0]).all() and (drawn[LEFT] == noise(0, HEIGHT, WIDTH)[LEFT]).all()


def test_classes_and_tracks_have_their_colours():
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    by_class = draw_objects(image, objects(class_ids=(1, 0), names=("a", "b")))
    by_track = draw_objects(image, objects(track_ids=np.array([7, 3])))
    for drawn, colors in ((by_class, (1, 0)), (by_track, (7, 3))):
        for (y, x), color in zip((LEFT, RIGHT), colors):
            assert np.abs(tint(drawn, y, x) - spread_color(color)).max() < 3


def test_enlarged_drawings_show_the_same():
    large = draw_objects(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8), objects(), scale=3)
    assert large.shape == (3 * HEIGHT, 3 * WIDTH, 3)
    assert np.abs(tint(large, 3 * LEFT[0], 3 * LEFT[1]) - PALETTE[0]).max() < 3


def test_frames_of_a_video_share_their_colours():
    memory, image = ColorMemory(), np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    first = draw_objects(image, objects(), memory=memory)
    swapped = objects()
    swapped = Objects(BOXES[::-1].copy(), swapped.class_ids, swapped.scores, swapped.class_names, swapped.masks[::-1])
    second = draw_objects(image, swapped, memory=memory)
    assert (first[LEFT] == second[LEFT]).all() and (first[RIGHT] == second[RIGHT]).all()
