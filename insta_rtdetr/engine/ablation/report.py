"""The report of an ablation: a Markdown table, all numbers as JSON, and two plots.

Plots and differences show mask AP, or box AP for models without masks.
"""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from insta_rtdetr.atomic import new_file, write_text

from .runs import METRICS, Result

HEADER = ("run", "changed", "mask AP", "against the first", "box AP", "seeds", "images seen", "seconds an iteration")


def write_report(results: Sequence[Result], folder: Path) -> None:
    """Write ablation.md, ablation.json, ablation.png and, if a run was evaluated more than once, curves.png.

    Args:
        results: the results of at least one run, those of the baseline first.
        folder: folder of the files.
    """
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.run.name, []).append(result)
    write_text(folder / "ablation.json", json.dumps([_as_dict(result) for result in results], indent=1) + "\n")
    complete = {name: [one for one in group if one.is_complete] for name, group in by_name.items()}
    complete = {name: group for name, group in complete.items() if group}
    if complete:
        write_text(folder / "ablation.md", table(complete))
        _save(_draw_spread(complete), folder / "ablation.png")
    if any(len(points) > 1 for result in results for points in result.curves.values()):
        _save(_draw_curves(by_name), folder / "curves.png")


def table(by_name: dict[str, list[Result]]) -> str:
    """Return a Markdown table with a row for each name: mean AP ± standard deviation if there are several seeds."""
    rows = [HEADER, ("---",) * len(HEADER), *(_row(group, next(iter(by_name.values()))) for group in by_name.values())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(group: list[Result], first: list[Result]) -> tuple[str, ...]:
    run = group[0].run
    metric = group[0].main_metric
    images = group[0].curves[metric][-1][0] * group[0].batch_size
    difference = "" if group is first else f"{_mean(group, metric) - _mean(first, metric):+.1f}"
    return (
        run.name,
        ", ".join(f"`{key} {value}`" for key, value in run.changes.items()),
        _mean_and_spread(group, METRICS[0]),
        difference,
        _mean_and_spread(group, METRICS[1]),
        str(len(group)),
        f"{images:,}",
        # The time is missing from the metrics of a run of few iterations.
        ", ".join(f"{one.seconds:.2f}" for one in group if not math.isnan(one.seconds)),
    )


def _mean(group: list[Result], metric: str) -> float:
    return statistics.mean(one.final(metric) for one in group)


def _mean_and_spread(group: list[Result], metric: str) -> str:
    if any(metric not in one.curves for one in group):
        return ""
    values = [one.final(metric) for one in group]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _as_dict(result: Result) -> dict:
    run = result.run
    return {
        "name": run.name,
        "seed": run.seed,
        "config": run.config,
        "overrides": run.overrides,
        "iterations": run.iterations,
        "batch_size": result.batch_size,
        "is_complete": result.is_complete,
        "seconds_an_iteration": None if math.isnan(result.seconds) else round(result.seconds, 3),
        "curves": {
            metric: [[done * result.batch_size, round(value, 3)] for done, value in points]
            for metric, points in result.curves.items()
        },
    }


def _draw_spread(by_name: dict[str, list[Result]]) -> Figure:
    """Draw a dot for the AP of each seed, and a line at their mean."""
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(by_name)), layout="constrained")
    axes = figure.subplots()
    for row, group in enumerate(by_name.values()):
        values = [one.final(one.main_metric) for one in group]
        axes.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.6)
        axes.plot(statistics.mean(values), row, "|", color="black", markersize=16)
    axes.set_yticks(range(len(by_name)), list(by_name))
    axes.invert_yaxis()
    axes.set_xlabel("AP on validation (dots: seeds, lines: means)")
    axes.grid(alpha=0.3)
    return figure


def _draw_curves(by_name: dict[str, list[Result]]) -> Figure:
    """Draw AP over images seen, with a line for each run and a colour for each name."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for color, (name, group) in enumerate(by_name.items()):
        for rank, result in enumerate(group):
            points = [(done * result.batch_size, value) for done, value in result.curves[result.main_metric]]
            label = name if rank == 0 else None
            axes.plot(*zip(*points), marker="o", color=f"C{color}", alpha=0.8, linewidth=1.2, label=label)
    axes.set_xlabel("images seen")
    axes.set_ylabel("AP on validation")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _save(figure: Figure, file: Path) -> None:
    FigureCanvasAgg(figure)
    with new_file(file) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)
