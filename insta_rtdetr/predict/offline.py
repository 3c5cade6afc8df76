"""Predicting many images and videos into a folder, for `tools/predict.py`.

The folder gets the drawn images and videos, and predictions.json (a list that pycocotools' loadRes takes) with
images.json (the images and categories that it refers to).  With tracks, tracks.jsonl has one line of JSON for each
frame: its objects, and their number by class.  While the run is unfinished,
predictions.unfinished.jsonl holds the finished part, and the same command continues from there.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from insta_rtdetr.atomic import new_file, write_text
from insta_rtdetr.errors import UserError, one_line

from .distributed import records_on_ray
from .inputs import Input, check_options, find_inputs
from .journal import Journal, Record
from .outputs import make_folder, refuse_replacing, targets_in
from .recorder import Recorder, Settings, Task, make_batches

SAVE_CHOICES = ("img", "json", "both")
JOURNAL_NAME = "predictions.unfinished.jsonl"
PREDICTIONS_NAME = "predictions.json"
IMAGES_NAME = "images.json"
TRACKS_NAME = "tracks.jsonl"
TRACK_KEYS = ("name", "frame", "height", "width", "counts", "totals", "objects")


@dataclass(frozen=True)
class Job:
    """Settings of a run: the model, the inputs and the output.

    Attributes:
        settings: settings of the model.
        source: paths, folders, patterns and addresses of the inputs.
        output: folder that is written to.
        save: one of SAVE_CHOICES: drawn images, COCO's JSON, or both.
        num_workers: number of Ray's workers; 0 for this process alone.
    """

    settings: Settings
    source: list[str]
    output: Path
    save: str = "both"
    num_workers: int = 0


def predict_offline(job: Job) -> int:
    """Run a job, and return the number of inputs that could not be read (each is named in an error line).

    Raises:
        UserError, CheckpointError: a setting, an input or the output is wrong.
    """
    _check(job)
    inputs = find_inputs(job.source)
    targets = targets_in(str(job.output), inputs) if job.save != "json" else []
    names = [one.name for one in inputs]
    if job.settings.track and (images := [one.name for one in inputs if not one.is_video]):
        raise UserError(f"{images[0]} is an image, and tracks are for videos.  Leave it or --track out.")
    refuse_replacing(names, [*targets, job.output / PREDICTIONS_NAME, job.output / IMAGES_NAME])
    make_folder(job.output)
    with closing(Journal(job.output / JOURNAL_NAME, run_identity(job))) as journal:
        num_unreadable = _predict_missing(job, inputs, targets, journal)
        if job.save != "img":
            done = [name for name in names if name in journal.done]
            write_coco(journal, done, job.output)
            if job.settings.track:
                write_tracks(journal, done, job.output)
        journal.file.unlink()
    return num_unreadable


def _check(job: Job) -> None:
    check_options(job.settings.threshold, job.settings.batch_size)
    if job.num_workers < 0:
        raise UserError(f"workers is {job.num_workers}, wanted at least 0.")


def run_identity(job: Job) -> dict[str, object]:
    """Return the settings that must not change when a run is continued; those that only affect its speed may change."""
    settings = dataclasses.asdict(job.settings)
    chosen = [name for name in ("tiling", "track", "augment") if settings[name]]
    names = ["model", "weights", "opts", "threshold", *chosen]
    return {"save": job.save} | {name: settings[name] for name in names}


def _predict_missing(job: Job, inputs: list[Input], targets: list[Path], journal: Journal) -> int:
    """Predict the inputs that are missing in the journal, and return the number of inputs that could not be read."""
    # A drawn video cannot be continued, nor can tracks, so they begin anew.
    tasks = [Task(one.name, str(target)) for one, target in zip(inputs, targets)] or [
        Task(one.name, first_frame=0 if job.settings.track else journal.count_frames(one.name)) for one in inputs
    ]
    tasks = [task for task in tasks if task.name not in journal.done]
    done = sum(one.count_images() for one in inputs if one.name in journal.done)
    done += sum(task.first_frame for task in tasks)
    num_unreadable = 0
    with tqdm(total=sum(one.count_images() for one in inputs), initial=done, unit="image", disable=None) as bar:
        for record in _records(job, make_batches(tasks, job.settings.batch_size)):
            if error := record.get("error"):
                num_unreadable += 1
                tqdm.write(f"error: {one_line(error)}", file=sys.stderr)
            else:
                journal.add(record)
            bar.update("height" in record or "error" in record)
    return num_unreadable


def _records(job: Job, batches: list[list[Task]]) -> Iterator[Record]:
    if not batches:
        return
    if job.num_workers:
        yield from records_on_ray(job.settings, batches, job.num_workers)
        return
    recorder = Recorder(job.settings)
    yield recorder.header()
    for batch in batches:
        yield from recorder.records(batch)


def write_coco(journal: Journal, names: list[str], folder: Path) -> None:
    """Write PREDICTIONS_NAME and IMAGES_NAME from the records of some inputs, in their order."""
    images = []
    numbers = _image_ids(names)

    with new_file(folder / PREDICTIONS_NAME) as unfinished, open(unfinished, "w") as file:
        separator = "["
        for name in names:
            for record in journal.records_of(name):
                if "height" not in record:
                    continue
                image_id = numbers[name] if numbers else len(images) + 1
                frame = {} if record["frame"] is None else {"frame": record["frame"]}
                size = {"height": record["height"], "width": record["width"]}
                images.append({"id": image_id, "file_name": name, **size, **frame})
                for found in record["objects"]:
                    file.write(separator + json.dumps({"image_id": image_id, **found}))
                    separator = ",\n"
        file.write("]\n" if separator != "[" else "[]\n")
    content = {"images": images, "categories": journal.header.get("categories", []), "annotations": []}
    write_text(folder / IMAGES_NAME, json.dumps(content))


def write_tracks(journal: Journal, names: list[str], folder: Path) -> None:
    """Write TRACKS_NAME from the records of some videos, in their order."""
    with new_file(folder / TRACKS_NAME) as unfinished, open(unfinished, "w") as file:
        for name in names:
            for record in journal.records_of(name):
                if "height" in record:
                    file.write(json.dumps({key: record[key] for key in TRACK_KEYS}) + "\n")


def _image_ids(names: list[str]) -> dict[str, int]:
    """Return the image id of each input if all files are named by numbers, as COCO's are; else empty."""
    stems = [Path(Input(name).path).stem for name in names]
    is_numbered = all(stem.isdecimal() for stem in stems) and not any(Input(name).is_video for name in names)
    ids = {name: int(stem) for name, stem in zip(names, stems)} if is_numbered else {}
    return ids if len(set(ids.values())) == len(ids) else {}
