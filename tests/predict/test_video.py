"""The newest frame of a camera is the one that is handed out."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from insta_rtdetr.errors import ImageError
from insta_rtdetr.predict.video import newest_frames


def camera(num_frames: int, closed: list[bool]) -> Iterator[np.ndarray]:
    """Frame i has the value i; one comes every 10 ms."""
    try:
        for number in range(num_frames):
            time.sleep(0.01)
            yield np.full((2, 2, 3), number, dtype=np.uint8)
    finally:
        closed.append(True)


def test_a_slow_reader_skips_frames_and_sees_the_last_one():
    closed: list[bool] = []
    seen = []
    for frame in newest_frames(camera(30, closed)):
        seen.append(int(frame[0, 0, 0]))
        time.sleep(0.05)
    assert seen == sorted(set(seen)) and len(seen) < 20 and seen[-1] == 29 and closed


def test_a_reader_that_stops_ends_the_thread():
    closed: list[bool] = []
    frames = newest_frames(camera(10**6, closed))
    next(frames)
    frames.close()
    assert closed


def test_an_error_of_the_camera_is_raised():
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros((2, 2, 3), dtype=np.uint8)
        raise ImageError("webcam 0 gave no frame")

    with pytest.raises(ImageError, match="webcam 0"):
        list(newest_frames(broken()))
