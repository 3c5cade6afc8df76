"""The tiny model as a file, and images, for the tests of prediction."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from insta_rtdetr import create_model
from insta_rtdetr.predict import Model
from tests.tiny import tiny_config, tiny_model

HEIGHT, WIDTH = 48, 80


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 3), uint8, RGB."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_video(file: Path, num_frames: int = 3) -> None:
    """A video of noise, 10 frames a second."""
    codec = "MJPG" if file.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*codec), 10.0, (WIDTH, HEIGHT))
    for index in range(num_frames):
        writer.write(noise(index))
    writer.release()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """Config (tiny.yaml) and random weights (tiny.pth) of the tiny model."""
    folder = tmp_path_factory.mktemp("model")
    # Few objects, because drawing them takes longer than finding them.
    (folder / "tiny.yaml").write_text(tiny_config("TEST.DETECTIONS_PER_IMAGE", 10).dump())
    torch.save({"model": tiny_model().state_dict()}, folder / "tiny.pth")
    return folder


@pytest.fixture(scope="session")
def model(model_folder) -> Model:
    """The tiny model, which finds much in noise at a threshold of 0."""
    return create_model(model_folder / "tiny.yaml", model_folder / "tiny.pth")


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of three images, one of another size, and a file that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(noise(0)).save(folder / "a.png")
    Image.fromarray(noise(1, 33, 64)).save(folder / "b.bmp")
    Image.fromarray(noise(2)).save(folder / "c.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def one_thread():
    """Sums of several threads differ in their last bits from those of one, which other processes of a test have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
