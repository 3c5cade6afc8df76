"""Broken and unusual datasets through the check, two ways of training, and an evaluation."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from PIL import Image
from torch import Tensor

from insta_rtdetr.data.datasets import register_coco_json
from insta_rtdetr.dataset_tools.command_line import main as dataset_main
from insta_rtdetr.engine.command_line import main as train_main
from tests.dataset_tools.broken import BROKEN, UNUSUAL, annotation_file, change, file_name, polygon, read, write
from tests.dataset_tools.broken import animated as animation
from tests.dataset_tools.broken import sound_dataset as make_sound
from tests.engine.tiny_training import TinySegmenter, tiny_overrides

from .children import Child
from .table import Row, Step

# Found by the check alone: training could not tell them from what is meant, or is not harmed.
LEFT_TO_THE_CHECK = {"image in two splits", "bbox of another object", "polygon reaching out"}
STEPS = ("check", "train --dataset", "train on a registered name", "evaluate")


@META_ARCH_REGISTRY.register()
class EmptyImageSegmenter(TinySegmenter):
    """The tiny model, for images without objects too."""

    def _losses(self, batch: list[dict], boxes: Tensor, masks: Tensor) -> dict[str, Tensor]:
        kept = [index for index, item in enumerate(batch) if len(item["instances"])]
        if not kept:
            return {"loss_box": boxes.sum() * 0, "loss_mask": masks.sum() * 0}
        return super()._losses([batch[index] for index in kept], boxes[kept], masks[kept])


def sized(width: int, height: int) -> Callable[[Path], None]:
    """A change: the first training image has this size, with an object that fills it."""

    def resize(folder: Path) -> None:
        Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(folder / "train" / "a.png")
        change("images", width=width, height=height)(folder)
        whole = {"bbox": [0, 0, width, height], "segmentation": [polygon(0, 0, width, height)]}
        for index in (0, 1):
            change("annotations", index, **whole)(folder)

    return resize


def ids(part: str, *fields: tuple[str, str], convert: Callable = str) -> Callable[[Path], None]:
    """A change: ids of one kind are converted in all lists, such as ("images", "id")."""

    def renumber(folder: Path) -> None:
        for split in ("train", "val"):
            content = read(folder, split)
            for name, field in ((part, "id"), *fields):
                for item in content[name]:
                    item[field] = convert(item[field])
            write(folder, split, content)

    return renumber


def huge_json(folder: Path) -> None:
    """A change: the annotation file of the training split has 300 MB."""
    write(folder, "train", read(folder) | {"info": "x" * 300_000_000})


# More that is broken, or may be: refused, repaired or taken as it is, but nothing else.
MORE = {
    "image ids as strings": ids("images", ("annotations", "image_id")),
    "annotation ids as strings": ids("annotations"),
    "category ids as strings": ids("categories", ("annotations", "category_id")),
    "image ids as strings in one list": ids("images"),
    "negative image ids": ids("images", ("annotations", "image_id"), convert=lambda number: -number),
    "negative annotation ids": ids("annotations", convert=lambda number: -number),
    "negative category ids": ids("categories", ("annotations", "category_id"), convert=lambda number: -number),
    "no area": change("annotations", area="absent"),
    "no iscrowd": change("annotations", iscrowd="absent"),
    "annotation without id": change("annotations", id="absent"),
    "annotation ids from 0": ids("annotations", convert=lambda number: number - 11),
    "name with a newline": file_name("a\nb.png"),
    "animated GIF": file_name("a.gif", animation),
    "image of 1 x 1": sized(1, 1),
    "image of 20,000 x 50": sized(20_000, 50),
    "JSON of 300 MB": huge_json,
}


def steps(folder: Path, only: tuple[str, ...] = ()) -> Iterator[Step]:
    """Yield all faults, or the named ones.

    Args:
        folder: for files.
    """
    weights = folder / "whole" / "model_final.pth"
    sound = make_sound(folder / "dataset")
    first = Child(_train_registered, sound, weights.parent, log=folder / "whole.log")
    if first.wait() != 0:
        raise RuntimeError(first.said)
    shutil.rmtree(sound)
    for name, damage in _all().items():
        if not only or name in only:
            yield name, partial(_try, folder, name, damage, weights)


def _all() -> dict[str, Callable[[Path], None]]:
    return {name: entry[0] for name, entry in (BROKEN | UNUSUAL).items()} | MORE


def _try(folder: Path, name: str, damage: Callable[[Path], None], weights: Path) -> Row:
    row = Row(name, "found by the check; refused or repaired and said so" if name in BROKEN else "taken, or refused")
    dataset = make_sound(folder / "dataset")
    damage(dataset)
    outcomes = {}
    for step, function in zip(STEPS, (_check, _train_own, _train_registered, _evaluate)):
        child = Child(function, dataset, folder / "out", weights, log=folder / "child.log")
        code = child.wait(120)
        outcome, said = _outcome(code, child.said.replace(str(dataset), "..."), step)
        outcomes[step] = f"{step}: {outcome}"
        row.add(_wrong(name, step, outcome, said))
        if outcome in ("refused", "said") and (not row.said or step == "train --dataset"):
            row.said = said
        shutil.rmtree(folder / "out", ignore_errors=True)
    shutil.rmtree(dataset)
    row.said = f"{', '.join(outcomes.values())}. {row.said}"[:420]
    return row


def _outcome(code: int | None, text: str, step: str) -> tuple[str, str]:
    """What a step did: "refused", "said" (done, with a warning), "done", or "crashed"; and its line."""
    marks = ("FAIL ", "note ") if step == "check" else ("error: ", "warning: ")
    is_said = (*marks, *(() if step == "check" else ("...",)))
    lines = [line for line in text.splitlines() if line.startswith(is_said)]
    if code not in (0, 1) or "Traceback" in text:
        return "crashed", f"exit code {code}: {(text.strip().splitlines() or [''])[-1]}"
    if code == 1:
        refusals = [line for line in lines if line.startswith(marks[0])]
        return ("refused", refusals[0]) if refusals else ("crashed", text[-200:])
    return ("said", lines[0]) if lines else ("done", "")


def _wrong(name: str, step: str, outcome: str, said: str) -> str:
    if outcome == "crashed":
        return f"{step}: {said}"
    is_named = outcome == "done" or any(word in said for word in ("...", "a.png", "a.jpg", "train", "annotation"))
    if not is_named:
        return f"{step} does not name where: {said}"
    if name in BROKEN and outcome == "done" and (step == "check" or name not in LEFT_TO_THE_CHECK):
        return f"{step} says nothing"
    return ""


def _check(dataset: Path, output: Path, weights: Path) -> int:
    torch.set_num_threads(1)
    return dataset_main(["check", str(dataset), "--output", str(output), "--workers", "1"])


def _overrides(output: Path, **more) -> list[str]:
    settings = {"MODEL__META_ARCHITECTURE": "EmptyImageSegmenter", "MODEL__NUM_CLASSES": 2, "SOLVER__MAX_ITER": 3,
                "SOLVER__STEPS": (), "SOLVER__IMS_PER_BATCH": 3}  # fmt: skip
    return tiny_overrides("faults_train", output, **{**settings, **more})


def _without(words: list[str], *keys: str) -> list[str]:
    pairs = list(zip(words[::2], words[1::2]))
    return [word for pair in pairs if pair[0] not in keys for word in pair]


def _train_own(dataset: Path, output: Path, weights: Path) -> int:
    torch.set_num_threads(1)
    given = _without(_overrides(output), "DATASETS.TRAIN", "DATASETS.TEST", "MODEL.NUM_CLASSES")
    return train_main(["--dataset", str(dataset), *given])


def _train_registered(dataset: Path, output: Path, weights: Path | None = None) -> int:
    torch.set_num_threads(1)
    register_coco_json("faults_train", annotation_file(dataset), dataset / "train")
    return train_main(_overrides(output, DATASETS__TEST=()))


def _evaluate(dataset: Path, output: Path, weights: Path) -> int:
    torch.set_num_threads(1)
    register_coco_json("faults_train", annotation_file(dataset), dataset / "train")
    return train_main(["--eval-only", *_overrides(output, MODEL__WEIGHTS=str(weights))])
