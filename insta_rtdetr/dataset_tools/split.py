"""Division of a dataset into training, validation and test images."""

import hashlib
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from insta_rtdetr.data.layouts import Split, find_dataset
from insta_rtdetr.errors import DatasetError

from .coco_folder import link_file, write_coco_folder


def split_dataset(source: Path, destination: Path, shares: dict[str, float], stratify: bool, seed: int) -> str:
    """Write a copy of a dataset with other splits; the existing splits are joined first.  The source is only read.

    Images with the same bytes go to the same split.  The copy's images are hard links where the file system has them.

    Args:
        source: the dataset's folder.
        destination: a new folder, which appears when everything is in it.
        shares: split -> percentage of the images; splits with 0 are left out.
        stratify: whether the objects of each class are divided in these proportions too.
        seed: seed of the random order; the same seed gives the same splits.

    Returns:
        one line with the size of each split.

    Raises:
        DatasetError: the shares do not add up to 100, a split would be empty, or the source is in no known layout.
    """
    shares = {name: share / 100 for name, share in shares.items() if share}
    if min(shares.values(), default=0) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        given = " + ".join(f"{100 * share:g}" for share in shares.values()) or "0"
        raise DatasetError(f"the shares are {given} percent, wanted positive ones that add up to 100.  Change them.")
    whole = join(list(find_dataset(source).splits.values()))
    groups = group_by_content([image["file_name"] for image in whole["images"]])
    labels = _labels(whole, groups) if stratify else [frozenset()] * len(groups)
    part_of = assign(labels, [len(group) for group in groups], list(shares.values()), np.random.default_rng(seed))
    contents = {
        name: _select(whole, {i for group, part in zip(groups, part_of) if part == index for i in group})
        for index, name in enumerate(shares)
    }
    for name, content in contents.items():
        if not content["images"]:
            raise DatasetError(f"{len(whole['images'])} images are too few: {name} would be empty.  Change the shares.")
    write_coco_folder(contents, destination, place=link_file)
    counts = [f"{name} {len(c['images'])} images, {len(c['annotations'])} objects" for name, c in contents.items()]
    return f"{destination}: {'; '.join(counts)}"


def join(splits: list[Split]) -> dict:
    """Join splits in one COCO dict.

    Ids count from 1, file names are absolute, and classes of the same name become one class.
    """
    names = list(dict.fromkeys(str(item["name"]) for split in splits for item in split.content["categories"]))
    number_of = {name: number for number, name in enumerate(names, start=1)}
    whole: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    whole["categories"] = [{"id": number, "name": name} for name, number in number_of.items()]
    for split in splits:
        content = split.content
        category_of = {item["id"]: number_of[str(item["name"])] for item in content["categories"]}
        image_of = {}
        for image in content["images"]:
            image_of[image["id"]] = len(whole["images"]) + 1
            file = os.path.abspath(split.image_root / image["file_name"])
            whole["images"].append(image | {"id": image_of[image["id"]], "file_name": file})
        for annotation in content["annotations"]:
            ids = {"id": len(whole["annotations"]) + 1, "image_id": image_of[annotation["image_id"]]}
            whole["annotations"].append(annotation | ids | {"category_id": category_of[annotation["category_id"]]})
    return whole


def group_by_content(files: list[str]) -> list[list[int]]:
    """Group files with the same bytes, and return the indices of each group.

    Raises:
        DatasetError: a file cannot be read.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        try:
            with open(file, "rb") as opened:
                groups[hashlib.file_digest(opened, "blake2b").digest()].append(index)
        except OSError as error:
            raise DatasetError(f"{file} cannot be read: {error.strerror}.  Check the dataset first.") from None
    return list(groups.values())


def _labels(whole: dict, groups: list[list[int]]) -> list[frozenset]:
    """Return the classes that occur in each group of images."""
    classes: dict[int, set] = defaultdict(set)
    for annotation in whole["annotations"]:
        classes[annotation["image_id"] - 1].add(annotation["category_id"])
    return [frozenset(set().union(*(classes[index] for index in group))) for group in groups]


def assign(labels: list[frozenset], sizes: list[int], shares: list[float], rng: np.random.Generator) -> list[int]:
    """Assign items to parts by iterative stratification.

    Labels are handled one after another, the rarest one first.  An item with the label goes to the part that still
    needs most items with that label.

    Args:
        labels: labels of each item; items without any are divided by the shares alone.
        sizes: number of images of each item.
        shares: fraction of the images that each part should get.
        rng: source of the random order.

    Returns:
        index of the part of each item.

    Source: Sechidis et al., On the Stratification of Multi-Label Data, 2011.
    """
    shares_array = np.array(shares)
    wanted = shares_array * sum(sizes)
    counts = Counter(label for item in labels for label in item)
    wanted_of = {label: shares_array * count for label, count in counts.items()}
    order = rng.permutation(len(labels)).tolist()
    part_of = [-1] * len(labels)
    for label in [*sorted(counts, key=lambda label: (counts[label], label)), None]:
        for index in order:
            if part_of[index] >= 0 or (label is not None and label not in labels[index]):
                continue
            of_label = wanted_of[label] if label is not None else wanted
            # Ties go to the part that needs most images, and further ties are broken at random.
            part = max(range(len(shares)), key=lambda part: (of_label[part], wanted[part], rng.random()))
            part_of[index] = part
            wanted[part] -= sizes[index]
            for other in labels[index]:
                wanted_of[other][part] -= 1
    return part_of


def _select(whole: dict, indices: set[int]) -> dict:
    """Return the images of some indices with their annotations; the ids do not change."""
    images = [image for index, image in enumerate(whole["images"]) if index in indices]
    ids = {image["id"] for image in images}
    return whole | {
        "images": images,
        "annotations": [annotation for annotation in whole["annotations"] if annotation["image_id"] in ids],
    }
