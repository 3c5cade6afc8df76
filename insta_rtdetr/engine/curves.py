"""curves.png: how a run went, drawn from Detectron2's metrics.json."""

import json

from detectron2.utils.file_io import PathManager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from insta_rtdetr.atomic import new_file

from .writers import main_losses

AP_METRICS = {"bbox/AP": "box AP", "segm/AP": "mask AP"}


def draw_curves(metrics_file: str, image_file: str, batch_size: int) -> None:
    """Draw losses, learning rate and AP over iterations and over images seen.

    The image is replaced in one go, so that a viewer never meets half of one.

    Args:
        metrics_file: one JSON object a line, as JSONWriter writes it.
        image_file: ends in .png.
        batch_size: images of one iteration.
    """
    if not PathManager.isfile(metrics_file):
        return
    records = read_metrics(metrics_file)
    figure = Figure(figsize=(9, 11), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, rate_axes, ap_axes = figure.subplots(3, 1)
    _draw_losses(loss_axes, records)
    _draw_series(rate_axes, records, {"lr": "learning rate"})
    rate_axes.set_ylabel("learning rate")
    _draw_series(ap_axes, records, _ap_names(records), marker="o")
    ap_axes.set_ylabel("AP (0 to 100)")
    for axes in (loss_axes, rate_axes, ap_axes):
        _finish(axes, batch_size)
    with new_file(image_file) as unfinished:
        figure.savefig(unfinished, format="png", dpi=100)


def read_metrics(metrics_file: str) -> list[dict]:
    """The records of metrics.json by iteration.

    A run that was killed and resumed repeats some iterations: the later record counts.  A line that was cut off when a
    run was killed is left out.
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


def _ap_names(records: list[dict]) -> dict[str, str]:
    # With several test datasets Detectron2 puts the dataset's name before the metric's.
    names = sorted({name for record in records for name in record if name.endswith(tuple(AP_METRICS))})
    labels = {}
    for name in names:
        dataset, _, task = name.removesuffix("/AP").rpartition("/")
        labels[name] = " ".join(part for part in (AP_METRICS[f"{task}/AP"], dataset) if part)
    return labels


def _draw_losses(axes: Axes, records: list[dict]) -> None:
    names = main_losses(sorted({name for record in records for name in record}))
    _draw_series(axes, records, {"total_loss": "total"} | {name: name for name in names})
    axes.set_ylabel("loss")
    if axes.lines:
        axes.set_yscale("log")


def _draw_series(axes: Axes, records: list[dict], labels: dict[str, str], **style) -> None:
    for name, label in labels.items():
        points = [(iterations_done(record), record[name]) for record in records if name in record]
        if points:
            axes.plot(*zip(*points), label=label, linewidth=1.2, **style)


def iterations_done(record: dict) -> int:
    """Iterations before a record was made."""
    # Detectron2 counts the evaluation after the last iteration, which has no learning rate, as one iteration more.
    return record["iteration"] + ("lr" in record)


def _finish(axes: Axes, batch_size: int) -> None:
    axes.set_xlabel("iterations")
    images = axes.secondary_xaxis("top", functions=(lambda x: x * batch_size, lambda x: x / batch_size))
    images.set_xlabel("images seen")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7, ncols=2)
