"""Statistics of a checked dataset: class balance, objects per image, sizes of objects and images."""

import math
from collections.abc import Sequence

from .check import DatasetCheck, SplitCheck

# The areas, in pixels, that separate COCO's small, medium and large objects.
SMALL_AREA, LARGE_AREA = 32**2, 96**2


def analyse(check: DatasetCheck) -> dict[str, dict]:
    """Compute the statistics of each split that a report shows; all values are plain numbers.

    Returns:
        split -> {"images", "objects", "class_counts", "objects_per_image", "object_sizes", "object_areas_of_coco",
        "image_sizes"}; the first two are numbers, the others {label: count}.
    """
    return {split.name: _analyse_split(split) for split in check.splits}


def _analyse_split(split: SplitCheck) -> dict:
    areas = [area for result in split.results for area in result.areas]
    shares = {
        "small (below 32²)": sum(area < SMALL_AREA for area in areas),
        "medium": sum(SMALL_AREA <= area <= LARGE_AREA for area in areas),
        "large (above 96²)": sum(area > LARGE_AREA for area in areas),
    }
    return {
        "images": len(split.tasks),
        "objects": len(areas),
        "class_counts": split.class_counts(),
        "objects_per_image": doubling_histogram([len(result.areas) for result in split.results]),
        "object_sizes": doubling_histogram([round(math.sqrt(area)) for area in areas]),
        "object_areas_of_coco": shares,
        "image_sizes": doubling_histogram([max(task.width, task.height) for task in split.tasks]),
    }


def doubling_histogram(values: Sequence[int]) -> dict[str, int]:
    """Count whole numbers in the bins 0, 1, 2-3, 4-7, ..., because sizes vary by orders of magnitude."""
    if not values:
        return {}
    counts = [0] * (max(values).bit_length() + 1)
    for value in values:
        counts[value.bit_length()] += 1
    first = next(index for index, count in enumerate(counts) if count)
    return {_bin_label(index): count for index, count in enumerate(counts) if index >= first}


def _bin_label(bits: int) -> str:
    low, high = (1 << bits) >> 1, (1 << bits) - 1
    return str(low) if low == high else f"{low}–{high}"
