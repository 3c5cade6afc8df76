"""Predicting inputs as records, in this process or in a worker of a cluster."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from insta_rtdetr.errors import ImageError
from insta_rtdetr.views.tiling import Tiling
from insta_rtdetr.views.viewed import Views
from insta_rtdetr.visualization import ColorMemory

from .create import create_model
from .inputs import Input, LoadedImage
from .journal import Record
from .outputs import make_folder
from .result import Result, coco_categories
from .tracking import Tracker
from .video import video_writer


@dataclass(frozen=True)
class Settings:
    """Settings of the model and of its prediction.

    Attributes:
        model, weights, device, opts: see `create_model`.
        threshold, batch_size: see `Model.predict`.
        is_recorded: whether the records hold the objects, as COCO results.
        tiling: tiles that images are cut into; None for none.
        track: whether the objects of a video are tracked.
        augment: see `Model.predict`.
    """

    model: str
    weights: str = ""
    device: str = ""
    opts: tuple[str, ...] = ()
    threshold: float = 0.5
    batch_size: int = 1
    is_recorded: bool = True
    tiling: Tiling | None = None
    track: bool = False
    augment: bool = False


@dataclass(frozen=True)
class Task:
    """Input that is to be predicted, and how.

    Attributes:
        name: name of the input.
        target: file that is drawn; empty for none.
        first_frame: frame of a video to start from.
    """

    name: str
    target: str = ""
    first_frame: int = 0


def make_batches(tasks: list[Task], batch_size: int) -> list[list[Task]]:
    """Divide tasks into batches: images in batches of `batch_size`, then each video alone."""
    images = [task for task in tasks if not Input(task.name).is_video]
    videos = [task for task in tasks if Input(task.name).is_video]
    starts = range(0, len(images), batch_size)
    return [images[start : start + batch_size] for start in starts] + [[video] for video in videos]


class Recorder:
    """Predictor of inputs that draws the results and describes them in records that can be written as JSON.

    The record of an image or a frame has name, frame, is_last, height, width and objects (COCO results without their
    image_id; empty if they are not recorded); with tracks also counts and totals, the number of objects by class in
    the frame, and of tracks so far.  The last record of a video only marks its end.  An input that cannot be
    read gives {"name", "error"}.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the model; errors are those of `create_model` and `Predictor.augmentation`."""
        self.settings = settings
        self.model = create_model(settings.model, settings.weights, settings.device, list(settings.opts))
        self._views = Views(settings.tiling, self.model.augmentation if settings.augment else None)

    def header(self) -> Record:
        """Return the record of the whole run: the model's categories, as COCO has them."""
        return {"categories": coco_categories(self.model.categories)}

    def records(self, batch: list[Task]) -> Iterator[Record]:
        """Predict one batch of `make_batches`, and yield its records."""
        if Input(batch[0].name).is_video:
            try:
                yield from self._video(batch[0])
            except ImageError as error:
                yield {"name": batch[0].name, "error": str(error)}
        else:
            yield from self._images(batch)

    def _images(self, batch: list[Task]) -> Iterator[Record]:
        tasks, images = [], []
        for task in batch:
            try:
                images += Input(task.name).read(by_crops=self.settings.tiling is not None)
                tasks.append(task)
            except ImageError as error:
                yield {"name": task.name, "error": str(error)}
        if not images:
            return
        self.model.masks_as_rle = not tasks[0].target  # Drawing needs the masks as pixels.
        for task, result in zip(tasks, self._predict(images, self.settings.threshold)):
            if task.target:
                result.save_to_img(task.target)
            yield self._record(result, is_last=True)

    def _predict(self, images: list[LoadedImage], threshold: float) -> Iterator[Result]:
        # Results of large images come one by one, because they may not fit into the memory all at once.
        for some in [[image] for image in images] if self._views.tiling else [images]:
            yield from self.model.predict_batch(some, threshold, self._views, self.settings.batch_size)

    def _video(self, task: Task) -> Iterator[Record]:
        frames = Input(task.name).read(task.first_frame)
        # The first batch is read before a file is begun, so that a file that is no video leaves none behind.
        batch = list(itertools.islice(frames, self.settings.batch_size))
        self.model.masks_as_rle = not task.target
        tracker = Tracker(self.settings.threshold, batch[0].fps) if self.settings.track and batch else None
        with self._drawing(task, batch) as draw:
            while batch:
                for result in self._predict(batch, tracker.lowest_score if tracker else self.settings.threshold):
                    result = tracker.update(result) if tracker else result
                    draw(result)
                    counts = {"counts": result.counts, "totals": dict(tracker.totals)} if tracker else {}
                    yield self._record(result, is_last=False) | counts
                batch = list(itertools.islice(frames, self.settings.batch_size))
        # The end is recorded only after the drawn video has got its name.
        yield {"name": task.name, "frame": None, "is_last": True}

    @contextmanager
    def _drawing(self, task: Task, first_batch: list[LoadedImage]) -> Iterator[Callable[[Result], None]]:
        """Give a function in a `with` block that draws the next frame into the task's video, if the task has one."""
        if not task.target or not first_batch:
            yield lambda result: None
            return
        make_folder(Path(task.target).parent)
        memory = ColorMemory()
        with video_writer(Path(task.target), first_batch[0].fps) as write:
            yield lambda result: write(result.draw(memory=memory))

    def _record(self, result: Result, is_last: bool) -> Record:
        image, objects = result.to_coco_image(), result.to_coco() if self.settings.is_recorded else []
        return {
            "name": result.source,
            "frame": result.frame,
            "is_last": is_last,
            "height": image["height"],
            "width": image["width"],
            "objects": [{key: value for key, value in one.items() if key != "image_id"} for one in objects],
        }
