"""Tracks of discs whose identities are known: one number for each, in every frame, from every model."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import Instances
from PIL import Image
from scipy.spatial.distance import pdist
from skimage.data import coins

from insta_rtdetr import create_model
from insta_rtdetr.errors import UserError
from insta_rtdetr.export.formats import write
from insta_rtdetr.export.network import TopObjects
from insta_rtdetr.export.run import Options, describe, load_model
from insta_rtdetr.predict import Result, command_line, recorder
from insta_rtdetr.predict.video import read_video, video_writer
from tests.predict.conftest import noise
from tests.views.grey import GreyModel, found_in

pytest.importorskip("trackers")
HEIGHT, WIDTH, NUM_FRAMES, RADIUS = 160, 240, 36, 11
# Where each disc is in the first frame (y, x) and how far it moves each frame: they pass one another closely.
STARTS = np.array([[30, 20], [58, 220], [84, 20], [110, 220], [140, 120]], dtype=float)
STEPS = np.array([[0, 5.5], [0, -5.5], [0.1, 5.0], [0, -4.0], [0, 0.0]])
HIDDEN = (2, range(14, 19))  # this disc cannot be seen in these frames


def centres(frame: int) -> dict[int, np.ndarray]:
    """Identity -> centre (y, x) of the discs that can be seen in a frame."""
    places = STARTS + frame * STEPS
    return {i: place for i, place in enumerate(places) if not (i == HIDDEN[0] and frame in HIDDEN[1])}


def frames() -> Iterator[np.ndarray]:
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    background = np.random.default_rng(0).integers(100, 116, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for frame in range(NUM_FRAMES):
        image = background.copy()
        for y, x in centres(frame).values():
            distance = np.hypot(rows - y, columns - x)
            image[distance <= RADIUS] = (215, 190, 60)
            image[(distance <= RADIUS) & (distance > RADIUS - 3)] = (150, 130, 40)
        yield image


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("video") / "discs.avi"
    with video_writer(file, 10.0) as write:
        for image in frames():
            write(image)
    return file


class DiscModel(GreyModel):
    """Model that finds regions brighter than the background; every third time with a low score."""

    num_images = 0
    low_score_period = 3

    def find(self, images: list[np.ndarray], threshold: float) -> list[Instances]:
        found = []
        for image in images:
            self.num_images += 1
            bright = (image[:, :, 0] > 130).astype(np.uint8)
            one = found_in(bright, score=0.9 if self.num_images % self.low_score_period else 0.3)
            found.append(one[one.scores >= threshold])
        return found


def identities(results: list[Result]) -> dict[int, set[int]]:
    """Identity -> the numbers that its objects got; every number must lie on a disc."""
    numbers: dict[int, set[int]] = {}
    for frame, result in enumerate(results):
        here = centres(frame)
        for box, number in zip(result.boxes, result.track_ids.tolist()):
            middle = np.array([box[1] + box[3], box[0] + box[2]]) / 2
            nearest = min(here, key=lambda identity: np.hypot(*(here[identity] - middle)))
            assert np.hypot(*(here[nearest] - middle)) < RADIUS
            numbers.setdefault(nearest, set()).add(number)
    return numbers


def assert_no_switch(results: list[Result]) -> None:
    numbers = identities(results)
    assert sorted(numbers) == list(range(len(STARTS)))
    assert all(len(of_one) == 1 for of_one in numbers.values()), numbers
    assert len(set.union(*numbers.values())) == len(STARTS)


@pytest.mark.parametrize("tile", [0, 100])
def test_every_object_keeps_its_number(video, tile):
    model = DiscModel()
    model.low_score_period = 10**9 if tile else 3
    results = list(model.track(video, tile=tile))
    assert_no_switch(results)
    for frame, result in enumerate(results[1:], start=1):
        # The hidden disc gets its number back as soon as it is seen again.
        assert len(result) == len(centres(frame)) and result.counts == {"disc": len(result)}


def test_images_are_the_frames_of_one_video_and_each_video_begins_anew(video):
    assert_no_switch(list(DiscModel().track(list(frames()))))
    twice = list(DiscModel().track([video, str(video)]))
    assert len(twice) == NUM_FRAMES
    other = video.with_name("other.avi")
    other.write_bytes(video.read_bytes())
    both = list(DiscModel().track([video, other]))
    assert_no_switch(both[:NUM_FRAMES])
    assert_no_switch(both[NUM_FRAMES:])
    assert len(both[NUM_FRAMES]) == 0 and set(both[NUM_FRAMES + 1].track_ids) == {1, 2, 3, 4, 5}


def test_an_object_keeps_its_number_when_it_is_found_twice_or_its_class_changes():
    class Wavering(DiscModel):
        def find(self, images, threshold):
            (found,) = super().find(images, threshold)
            found.pred_classes[:] = self.num_images % 2
            worse = found[[0] * len(found)]
            worse.pred_boxes.tensor[:] += 1
            worse.pred_classes[:] = 1 - found.pred_classes
            worse.scores[:] -= 0.05
            return [Instances.cat([found, worse])]

    model = Wavering()
    model.categories = type(model.categories)(("disc", "coin"), (1, 2))
    results = list(model.track(video_of_one_place()))
    assert [result.track_ids.tolist() for result in results] == [[], [1], [1], [1], [1], [1]]
    assert {name for result in results for name in result.class_names} == {"disc", "coin"}


def video_of_one_place() -> list[np.ndarray]:
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    image[20:40, 20:40] = 200
    return [image] * 6


def test_results_carry_their_numbers(video):
    result = list(DiscModel().track(video))[5]
    assert [one["track_id"] for one in result.to_coco()] == result.track_ids.tolist()
    assert result.to_supervision().tracker_id.tolist() == result.track_ids.tolist()
    drawn = result.draw()
    assert drawn.shape == (HEIGHT, WIDTH, 3) and (drawn != result.image).any()
    (untracked,) = DiscModel().predict(next(frames()))
    assert untracked.track_ids is None and "track_id" not in untracked.to_coco()[0]


def test_a_track_keeps_its_colour(video):
    results = list(DiscModel().track(video))
    colors = []
    for frame in (8, 20):
        (place,) = np.flatnonzero(results[frame].track_ids == results[1].track_ids[0])
        x, y = results[frame].boxes[place].reshape(2, 2).mean(axis=0).astype(int)
        colors.append(results[frame].draw()[y - 2 : y + 3, x - 6 : x - 3].astype(int).mean((0, 1)))
    assert np.abs(colors[0] - colors[1]).max() < 30


def test_the_command_line_writes_a_line_of_json_for_each_frame(video, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "create_model", lambda *args: DiscModel())
    arguments = ["--model", "any", "--input", str(video), "--output", str(tmp_path / "out"), "--track"]
    assert command_line.main(arguments) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "tracks.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(NUM_FRAMES))
    expected = list(DiscModel().track(video))
    for line, result in zip(lines, expected):
        assert line["counts"] == result.counts and len(line["objects"]) == len(result)
        assert [one["track_id"] for one in line["objects"]] == result.track_ids.tolist()
    assert lines[-1]["totals"] == {"disc": len(STARTS)}
    assert len(list(read_video(str(tmp_path / "out" / "discs.avi")))) == NUM_FRAMES


def test_images_have_no_tracks(tmp_path, capsys):
    Image.fromarray(noise(0)).save(tmp_path / "a.png")
    arguments = ["--model", "any", "--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "out"), "--track"]
    assert command_line.main(arguments) == 1
    assert "tracks are for videos" in capsys.readouterr().err


def test_the_package_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(UserError, match="trackers"):
        DiscModel().track(next(frames()))


def test_an_exported_file_keeps_the_numbers(tmp_path):
    options = Options("quickstart_MNV2_D3_256")
    model = load_model(options)
    network = TopObjects(model.module, tuple(model.cfg.INPUT.FIXED_SIZE), with_postprocess=False, half=False).eval()
    write(network, describe(model, options), "onnx", tmp_path / "quickstart.onnx")
    # The camera moves over a photograph of coins, which all lie more than 40 pixels apart.
    photograph, step = np.repeat(coins()[:, :, None], 3, axis=2), 6
    views = [np.ascontiguousarray(photograph[60:260, step * i : step * i + 256]) for i in range(10)]
    places: dict[int, list[np.ndarray]] = {}
    for frame, result in enumerate(create_model(tmp_path / "quickstart.onnx").track(views, threshold=0.6)):
        for box, number in zip(result.boxes, result.track_ids.tolist()):
            is_whole = (box > 4).all() and (box < [252, 196, 252, 196]).all()
            if is_whole:
                places.setdefault(number, []).append(box.reshape(2, 2).mean(axis=0) + (step * frame, 0))
    assert len(places) >= 10 and all(np.ptp(of_one, axis=0).max() < 15 for of_one in places.values()), places
    middles = np.array([np.mean(of_one, axis=0) for of_one in places.values()])
    assert pdist(middles).min() > 25
