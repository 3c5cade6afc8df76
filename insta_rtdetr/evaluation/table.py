"""COCO's metrics as a small table."""

import math
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

# Detectron2's names of tasks and metrics -> the displayed names.
TASKS = {"bbox": "box", "segm": "mask"}
METRICS = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APs": "small", "APm": "medium", "APl": "large"}
CLASS_PREFIX = "AP-"


def ap_table(results: Mapping[str, Mapping[str, float]], title: str = "", per_class: bool = False) -> str:
    """Return a table of the AP of boxes and masks, in percent, with a dash where there are no objects to score.

    Args:
        results: task -> metric -> value, as the evaluators return them; tasks not in `TASKS` are left out.
        title: title of the first column.
        per_class: whether a second table has the AP of each class.
    """
    tasks = [task for task in TASKS if task in results]
    if not tasks:
        return f"{title} nothing was scored".lstrip()
    shown = [metric for metric in METRICS if any(metric in results[task] for task in tasks)]
    rows = [[TASKS[task], *(_percent(results[task].get(metric)) for metric in shown)] for task in tasks]
    text = _table(rows, [title, *(METRICS[metric] for metric in shown)])
    classes = [metric for task in tasks[:1] for metric in results[task] if metric.startswith(CLASS_PREFIX)]
    if not per_class or not classes:
        return text
    rows = [[name[len(CLASS_PREFIX) :], *(_percent(results[task].get(name)) for task in tasks)] for name in classes]
    return f"{text}\n\n{_table(rows, ['class', *(f'{TASKS[task]} AP' for task in tasks)])}"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    alignment = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True, colalign=alignment)


def _percent(value: Any) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
