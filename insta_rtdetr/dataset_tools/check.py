"""Check of a dataset before a training: its annotation files, every image and every mask.

Images are read in parallel; a dataset of 100,000 objects takes under a minute on two cores.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from insta_rtdetr.data.layouts import WHOLE, Split, counted, find_dataset
from insta_rtdetr.errors import DatasetError

from .check_image import ImageResult, ImageTask, check_image
from .check_records import check_categories, check_content, image_tasks
from .findings import Finding, ok
from .problems import DROPS_OBJECT, KINDS, Problems

IMAGES_A_CALL = 16  # Number of images that a process gets at a time.
NEEDED_SPLITS = ("train", "val")
LARGEST_IMBALANCE = 100
LARGEST_SHARE_DROPPED = 0.1


@dataclass
class SplitCheck:
    """Result of the check of one split.

    Attributes:
        name: name of the split.
        source: its annotation file, or its folder.
        problems: what was found.
        tasks, results: tasks and results of the images that could be checked, in the same order.
        class_names: category id -> name.
        num_images, num_annotations: numbers of images and annotations that the file lists.
    """

    name: str
    source: Path
    problems: Problems = field(default_factory=Problems)
    tasks: list[ImageTask] = field(default_factory=list)
    results: list[ImageResult] = field(default_factory=list)
    class_names: dict = field(default_factory=dict)
    num_images: int = 0
    num_annotations: int = 0

    def summary(self) -> str:
        """Return one line with the numbers of images, objects and classes."""
        classes = counted(len(self.class_names), "class", "classes")
        return f"{self.name}: {counted(self.num_images, 'image')}, {counted(self.num_annotations, 'object')}, {classes}"

    def findings(self) -> list[Finding]:
        """Return one line for each kind of problem."""
        return self.problems.findings(self.name)

    @property
    def num_objects(self) -> int:
        """Return the number of usable objects, without crowds."""
        return sum(len(result.areas) for result in self.results)

    def class_counts(self) -> dict[str, int]:
        """Return class name -> number of objects, the most frequent class first."""
        counts = Counter({category: 0 for category in self.class_names})
        counts.update(category for result in self.results for category in result.categories)
        return {self.class_names[category]: count for category, count in counts.most_common()}


@dataclass
class DatasetCheck:
    """Result of the check of all splits of a dataset."""

    folder: Path
    splits: list[SplitCheck]

    def findings(self) -> list[Finding]:
        """Return one line for each split that is sound, and for each kind of problem."""
        lines = []
        for check in self.splits:
            found = check.findings()
            if not any(finding.status == "FAIL" for finding in found):
                lines.append(ok(check.summary()))
            lines += found
        return lines

    @property
    def passes(self) -> bool:
        """Return whether a model can be trained on the dataset."""
        return all(KINDS[kind].status != "FAIL" for check in self.splits for kind in check.problems.counts)


def check_folder(
    folder: Path, *, num_opened: int | None = None, num_workers: int = 0, show_progress: bool = True
) -> DatasetCheck:
    """Check a dataset, each split alone and against the others.

    Args:
        folder: the dataset, in one of the layouts of insta_rtdetr.data.layouts.
        num_opened: number of images of each split that are opened; of the others, only the existence is checked.
            By default all are opened.
        num_workers: number of processes that read images; 0 for one for each core.
        show_progress: whether a progress bar is shown.

    Raises:
        DatasetError: there is no such folder.
    """
    if not folder.exists():
        raise DatasetError(f"{folder} not found.  Name the dataset's folder.")
    try:
        splits = find_dataset(folder).splits
    except (DatasetError, OSError) as error:
        unreadable = SplitCheck("dataset", folder)
        unreadable.problems.add("dataset_unreadable", str(error))
        return DatasetCheck(folder, [unreadable])
    checks = check_splits(splits, num_opened, num_workers or os.cpu_count() or 1, show_progress)
    return DatasetCheck(folder, [*checks, *_missing_splits(folder, checks)])


def check_splits(
    splits: dict[str, Split], num_opened: int | None, num_workers: int, show_progress: bool
) -> list[SplitCheck]:
    """Check splits, given by name; see `check_folder` for the other arguments."""
    checks = [_check_annotations(name, split) for name, split in splits.items()]
    if num_opened is not None:
        for check in checks:
            _look_for_images(check, num_opened)
    _check_images(checks, num_workers, show_progress)
    if num_opened is None:
        for check in checks:
            _check_objects(check)
        _compare_contents(checks)
    _compare_classes(checks)
    return checks


def _look_for_images(check: SplitCheck, num_opened: int) -> None:
    """Keep only the first few images to be opened, and check of the others only that they exist."""
    for task in check.tasks[num_opened:]:
        if not os.path.isfile(task.file):
            check.problems.add("image_missing", task.name)
    check.tasks = check.tasks[:num_opened]


def _missing_splits(folder: Path, checks: list[SplitCheck]) -> list[SplitCheck]:
    names = [check.name for check in checks]
    missing = []
    for name in NEEDED_SPLITS if WHOLE not in names else ():
        if name not in names:
            missing.append(SplitCheck(name, folder))
            missing[-1].problems.add("split_missing", f"{name} in {folder}")
    return missing


def _check_annotations(name: str, split: Split) -> SplitCheck:
    check = SplitCheck(name, split.json_file or split.image_root)
    content = split.content
    if invalid := check_content(content):
        check.problems.add("json_invalid", f"{check.source}: {invalid}")
        return check
    if name == WHOLE:
        check.problems.add("not_split", str(check.source))
    check.class_names = check_categories(content["categories"], check.problems)
    check.tasks = image_tasks(content, split.image_root, check.problems)
    check.num_images, check.num_annotations = len(content["images"]), len(content["annotations"])
    if not content["images"]:
        check.problems.add("split_empty", str(check.source))
    return check


def _check_images(checks: list[SplitCheck], num_workers: int, show_progress: bool) -> None:
    """Fill in the results of the checks."""
    tasks = [task for check in checks for task in check.tasks]
    num_workers = min(num_workers, len(tasks) // IMAGES_A_CALL)
    with tqdm(total=len(tasks), unit="image", disable=not show_progress) as progress:
        owners = [check for check in checks for _ in check.tasks]
        for check, result in zip(owners, _results(tasks, num_workers)):
            check.results.append(result)
            for kind, example in result.problems:
                check.problems.add(kind, example)
            progress.update()


def _results(tasks: list[ImageTask], num_workers: int) -> Iterable[ImageResult]:
    if num_workers < 2:
        yield from map(check_image, tasks)
        return
    # Forked processes need not import PyTorch again, which takes longer than the check of a small dataset.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context(method)) as pool:
        yield from pool.map(check_image, tasks, chunksize=IMAGES_A_CALL)


def _check_objects(check: SplitCheck) -> None:
    """Check a split's usable objects as a whole: their number, and the balance of their classes."""
    problems = check.problems
    empty = [task.name for task, result in zip(check.tasks, check.results) if not result.areas]
    if not check.num_objects and check.tasks:
        if check.name in (*NEEDED_SPLITS, WHOLE):
            problems.add("no_objects", str(check.source))
    elif empty:
        problems.add("image_without_objects", empty[0], len(empty))
    num_dropped = sum(problems.counts[kind] for kind in DROPS_OBJECT)
    if num_dropped > LARGEST_SHARE_DROPPED * check.num_annotations:
        problems.add("many_unusable", f"{num_dropped} of {check.num_annotations}")
    counts = check.class_counts()
    unused = [name for name, count in counts.items() if count == 0]
    used = {name: count for name, count in counts.items() if count}
    if unused and used:
        problems.add("category_unused", unused[0], len(unused))
    if used and max(used.values()) > LARGEST_IMBALANCE * min(used.values()):
        (common, most), (rare, fewest) = next(iter(used.items())), list(used.items())[-1]
        problems.add("class_imbalance", f"{common} ({most}) against {rare} ({fewest})")


def _compare_contents(checks: list[SplitCheck]) -> None:
    """Find images that occur twice, by the bytes of their files."""
    seen: dict[bytes, tuple[SplitCheck, str]] = {}
    for check in checks:
        for task, result in zip(check.tasks, check.results):
            if not result.digest:
                continue
            first_check, first_name = seen.setdefault(result.digest, (check, task.name))
            if first_check is not check:
                text = f"{task.name} ({first_name} in {first_check.name})"
                check.problems.add("image_in_two_splits", text)
            elif first_name != task.name:
                check.problems.add("image_content_twice", f"{task.name} ({first_name})")


def _compare_classes(checks: list[SplitCheck]) -> None:
    """Find splits with different class lists; the classes of each split are numbered in the order of its own ids."""
    first, *others = [check for check in checks if check.class_names] or [None]
    for check in others:
        if check.class_names != first.class_names:
            differing = set(check.class_names.items()) ^ set(first.class_names.items())
            names = sorted({name for _, name in differing})[:3]
            check.problems.add("categories_differ", f"{', '.join(names)} ({check.name} against {first.name})")
