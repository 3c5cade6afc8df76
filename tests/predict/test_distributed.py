"""Prediction on a local Ray of two workers: the results of one process, also when a worker is killed."""

import builtins
import json
import os
import pickle
import signal
import sys

import pytest
from PIL import Image

from insta_rtdetr.errors import UserError
from insta_rtdetr.predict import distributed
from insta_rtdetr.predict.journal import Record
from insta_rtdetr.predict.recorder import Recorder, Settings, Task, make_batches
from insta_rtdetr.views import Tiling
from tests.predict.conftest import noise, write_video

NUM_IMAGES, NUM_FRAMES = 24, 3


@pytest.fixture
def ray(monkeypatch):
    """Ray, stopped at the end; the `print` that it puts in place of Python's goes with it."""
    monkeypatch.setattr(builtins, "print", print)
    ray = pytest.importorskip("ray")
    yield ray
    ray.shutdown()


def by_name(records: list[Record]) -> dict[tuple[str, int | None], Record]:
    """Name and frame -> record."""
    return {(record["name"], record.get("frame")): record for record in records if "name" in record}


@pytest.mark.usefixtures("one_thread")
def test_two_workers_one_of_them_killed_give_the_results_of_one_process(ray, model_folder, tmp_path, monkeypatch):
    for index in range(NUM_IMAGES):
        Image.fromarray(noise(index)).save(tmp_path / f"{index:02d}.png")
    (tmp_path / "05.png").write_bytes(b"no image")
    write_video(tmp_path / "video.avi", NUM_FRAMES)
    settings = Settings(
        str(model_folder / "tiny.yaml"), str(model_folder / "tiny.pth"), threshold=0.0, batch_size=2,
        tiling=Tiling(64), track=True, augment=True,
    )  # fmt: skip
    tasks = [Task(str(file), str(tmp_path / "out" / file.name)) for file in sorted(tmp_path.glob("*.png"))]
    tasks.append(Task(str(tmp_path / "video.avi")))
    batches = make_batches(tasks, settings.batch_size)
    recorder = Recorder(settings)
    expected = by_name([record for batch in batches for record in recorder.records(batch)])
    assert len(expected) == NUM_IMAGES + NUM_FRAMES + 1 and "error" in expected[str(tmp_path / "05.png"), None]
    assert expected[str(tmp_path / "video.avi"), NUM_FRAMES - 1]["totals"]

    killed = tmp_path / "killed"

    # Defined here, so that Ray sends its code to the workers.
    class DyingWorker(distributed.Worker):
        def __call__(self, rows):
            for row in super().__call__(rows):
                yield row
                if "10.png" in row["record"][0] and not killed.exists():
                    killed.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(distributed, "Worker", DyingWorker)
    found = list(distributed.records_on_ray(settings, batches, num_workers=2))
    assert killed.exists()
    assert recorder.header() in found
    assert by_name(found) == expected
    assert len(list((tmp_path / "out").glob("*.png"))) == NUM_IMAGES - 1
    assert not list((tmp_path / "out").glob(".*"))


def test_a_worker_takes_tiles_tracks_and_views(model_folder, tmp_path):
    Image.fromarray(noise(0)).save(tmp_path / "a.png")
    write_video(tmp_path / "video.avi", NUM_FRAMES)
    settings = Settings(
        str(model_folder / "tiny.yaml"), str(model_folder / "tiny.pth"), threshold=0.0,
        tiling=Tiling(64), track=True, augment=True,
    )  # fmt: skip
    batches = make_batches([Task(str(tmp_path / "a.png")), Task(str(tmp_path / "video.avi"))], batch_size=1)
    recorder = Recorder(settings)
    expected = [recorder.header(), *(record for batch in batches for record in recorder.records(batch))]
    assert len(expected) == 1 + 1 + NUM_FRAMES + 1 and expected[-2]["totals"]
    worker = distributed.Worker(pickle.loads(pickle.dumps(settings)), os.getcwd())
    rows = worker({"batch": [json.dumps([vars(task) for task in batch]) for batch in batches]})
    assert [json.loads(row["record"][0]) for row in rows] == json.loads(json.dumps(expected))


def test_without_ray_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="pip install"):
        next(distributed.records_on_ray(Settings("quickstart_MNV2_D3_256"), [[Task("a.png")]], num_workers=1))


def test_a_wrong_model_is_told_before_ray_is_started():
    with pytest.raises(UserError, match=r"absent.yaml not found"):
        next(distributed.records_on_ray(Settings("absent.yaml"), [[Task("a.png")]], num_workers=1))
