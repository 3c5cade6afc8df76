"""Reading and writing videos, frame by frame, with OpenCV.  Frames are uint8 (H, W, 3), RGB."""

import contextlib
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

# FFmpeg would write lines of its own about a damaged video.  The variable is read when the first video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from insta_rtdetr.atomic import new_file
from insta_rtdetr.errors import ImageError, UserError

VIDEO_ENDINGS = (
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip
# Endings of videos that can be written -> their codecs.
VIDEO_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
# Frames per second of videos that do not declare it.
DEFAULT_FPS = 25.0
FIRST_WEBCAM = 0
POLL_SECONDS = 0.1


def read_video(file: str | int, first_frame: int = 0) -> Iterator[np.ndarray]:
    """Read the frames of a video file, or of a webcam (given as a number), from `first_frame` on.

    Raises:
        ImageError: it is no video, or has no frame.
    """
    with _opened(file) as video:
        for _ in range(first_frame):
            video.grab()
        num_frames = 0
        while True:
            is_read, frame_bgr = video.read()
            if not is_read:
                break
            num_frames += 1
            yield np.ascontiguousarray(frame_bgr[:, :, ::-1])
    if num_frames == 0 and first_frame == 0:
        raise ImageError(f"{_said(file)} gave no frame")


def newest_frames(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the newest frame of a camera whenever one is asked for, and leave out those that came before it.

    The frames are read by a thread, so that what is shown never lags behind the camera, however slow the model is.

    Args:
        frames: what `read_video` gives for a webcam.

    Raises:
        ImageError: the camera gives no frame.
    """
    newest: queue.Queue[np.ndarray] = queue.Queue(maxsize=1)
    is_closed = threading.Event()

    def read() -> None:
        with contextlib.closing(frames):
            for frame in frames:
                if is_closed.is_set():
                    return
                with contextlib.suppress(queue.Empty):
                    newest.get_nowait()
                newest.put(frame)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            while not (reading.done() and newest.empty()):
                with contextlib.suppress(queue.Empty):
                    yield newest.get(timeout=POLL_SECONDS)
            reading.result()
        finally:
            is_closed.set()


def count_frames(file: str | int) -> int:
    """Return the number of frames that a video declares; 0 if it declares none or cannot be read."""
    try:
        with _opened(file) as video:
            return max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    except ImageError:
        return 0


def frames_per_second(file: str | int) -> float:
    """Return the frames per second that a video declares, or DEFAULT_FPS if it declares none.

    Raises:
        ImageError: it is no video.
    """
    with _opened(file) as video:
        fps = video.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and fps > 0 else DEFAULT_FPS


@contextmanager
def video_writer(target: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a video in a `with` block, which gets a function that takes the frames.

    The file appears complete at the end of the block, and not at all after an error.
    """
    writer = cv2.VideoWriter()

    def write(frame_rgb: np.ndarray) -> None:
        if not writer.isOpened():
            height, width = frame_rgb.shape[:2]
            codec = cv2.VideoWriter_fourcc(*VIDEO_CODECS[target.suffix.lower()])
            if not writer.open(str(unfinished), codec, fps, (width, height)):
                raise UserError(f"OpenCV cannot write {target}.  Try another ending: {', '.join(VIDEO_CODECS)}.")
        writer.write(np.ascontiguousarray(frame_rgb[:, :, ::-1]))

    with new_file(target, several_writers=True, keep_ending=True) as unfinished:
        try:
            yield write
        finally:
            writer.release()


@contextmanager
def _opened(file: str | int) -> Iterator[cv2.VideoCapture]:
    log_level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    video = cv2.VideoCapture(file)
    cv2.utils.logging.setLogLevel(log_level)
    try:
        if not video.isOpened():
            raise ImageError(f"{_said(file)} cannot be read: it is no video that OpenCV can read")
        yield video
    finally:
        video.release()


def _said(file: str | int) -> str:
    return f"webcam {file}" if isinstance(file, int) else file
