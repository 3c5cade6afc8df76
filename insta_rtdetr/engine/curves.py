"""Drawing curves.png, the losses and AP of a run, from Detectron2's metrics.json.

Matplotlib is imported where it draws, because importing it takes 0.4 s, and every command imports this module.
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from detectron2.utils.file_io import PathManager

from insta_rtdetr.atomic import new_file, write_text

from .writers import main_losses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AP_METRICS = {"bbox/AP": "box AP", "segm/AP": "mask AP"}


def draw_curves(metrics_file: str, image_file: str, batch_size: int) -> None:
    """Draw losses, learning rate and AP over iterations and over images seen, as far as the file has them.

    The image is replaced atomically, so that a viewer never sees half of one.

    Args:
        metrics_file: file with one JSON object a line, as JSONWriter writes it.
        image_file: PNG file that is written.
        batch_size: images of one iteration.
    """
    if not PathManager.isfile(metrics_file):
        return
    records = read_metrics(metrics_file)
    names = {name for record in records for name, value in record.items() if math.isfinite(value)}
    losses = {"total_loss": "total"} | {name: name for name in main_losses(sorted(names))}
    panels = {
        "loss": {name: label for name, label in losses.items() if name in names},
        "learning rate": {"lr": "learning rate"} if "lr" in names else {},
        "AP (0 to 100)": _ap_labels(sorted(names)),
    }
    panels = {title: labels for title, labels in panels.items() if labels}
    if not panels:
        return
    figure = _empty_figure(9, 3.7 * len(panels))
    for axes, (title, labels) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items()):
        _draw_series(axes, records, labels, marker="o" if title.startswith("AP") else None)
        axes.set_ylabel(title)
        axes.set_yscale("log" if title == "loss" else "linear")
        _finish(axes, batch_size)
    with new_file(image_file) as unfinished:
        figure.savefig(unfinished, format="png", dpi=100)


def _empty_figure(width: float, height: float) -> "Figure":
    """Return a figure of this size in inches, which is drawn to pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def read_metrics(metrics_file: str) -> list[dict]:
    """Read the records of metrics.json, ascending by iteration.

    If a run was killed and resumed, some iterations occur twice; their later records are returned.  A line that was cut
    off when a run was killed is left out.
    """
    records: list[dict] = []
    with PathManager.open(metrics_file) as lines:
        for line in lines:
            try:
                record = json.loads(line)
                iteration = record["iteration"]
            except (ValueError, KeyError, TypeError):
                continue
            while records and records[-1]["iteration"] >= iteration:
                records.pop()
            records.append(record)
    return records


def forget_later_metrics(metrics_file: str, iterations: int, keep_final: bool = True) -> None:
    """Remove the records of later iterations, which a run that goes on after `iterations` will make once more.

    A line that was cut off when the run was killed goes too, because the next record would be written behind it.

    Args:
        metrics_file: metrics.json.
        iterations: number of iterations.
        keep_final: whether the evaluation at the end of training, which is no iteration's, stays too.
    """
    file = Path(metrics_file)
    if not file.is_file():
        return
    text = file.read_text(encoding="utf-8")
    kept = "".join(line for line in text.splitlines(keepends=True) if _is_of_first(line, iterations, keep_final))
    if kept != text:
        write_text(file, kept)


def _is_of_first(line: str, iterations: int, keep_final: bool) -> bool:
    try:
        record = json.loads(line)
        is_final = iterations_done(record) == iterations and "lr" not in record
        return line.endswith("\n") and iterations_done(record) <= iterations and (keep_final or not is_final)
    except (ValueError, KeyError, TypeError):
        return False


def _ap_labels(names: list[str]) -> dict[str, str]:
    """Choose the metrics that are AP, and name them as in the drawing."""
    labels = {}
    for name in (name for name in names if name.endswith(tuple(AP_METRICS))):
        # With several test datasets Detectron2 puts the dataset's name before the metric's.
        dataset, _, task = name.removesuffix("/AP").rpartition("/")
        labels[name] = " ".join(part for part in (AP_METRICS[f"{task}/AP"], dataset) if part)
    return labels


def _draw_series(axes: "Axes", records: list[dict], labels: dict[str, str], **style) -> None:
    for name, label in labels.items():
        points = [(iterations_done(record), record[name]) for record in records if name in record]
        axes.plot(*zip(*points), label=label, linewidth=1.2, **style)


def iterations_done(record: dict) -> int:
    """Return the number of iterations that were done when a record was made."""
    # Detectron2 counts the evaluation after the last iteration, which has no learning rate, as one iteration more.
    return record["iteration"] + ("lr" in record)


def _finish(axes: "Axes", batch_size: int) -> None:
    axes.set_xlabel("iterations")
    images = axes.secondary_xaxis("top", functions=(lambda x: x * batch_size, lambda x: x / batch_size))
    images.set_xlabel("images seen")
    axes.grid(alpha=0.3)
    if len(axes.lines) > 1:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
