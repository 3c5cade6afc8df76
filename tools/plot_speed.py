#!/usr/bin/env python3
"""Plot the published mask AP of models over their measured latency, from the JSON that the benchmark wrote.

    python tools/benchmark.py --config-file NAME NAME ... --device cpu --threads 2 --output speed.json
    python tools/plot_speed.py speed.json --output docs/images/speed.svg

Several files are put into one figure, such as one run with and one without `--backends openvino`.  Models without
published AP are left out.  The line joins the models that no other one beats in both.
"""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from matplotlib.transforms import Bbox

from insta_rtdetr.benchmark.report import machine_line
from insta_rtdetr.command_line import CommandParser, run_command
from insta_rtdetr.errors import UserError
from insta_rtdetr.zoo import published_files

# Beginning of a config's name -> family and its colour.
FAMILIES = {
    "insta_rtdetr": ("Insta-RT-DETR", "#1f6feb"), "fastinst": ("FastInst", "#d1242f"),
    "mask_rtdetr": ("Mask-RT-DETR", "#1a7f37"), "rfdetr_seg": ("RF-DETR-Seg", "#8250df"),
    "maskdino": ("Mask DINO", "#9a6700"), "sparse_inst": ("SparseInst", "#bf3989"),
    "ppyoloe_seg": ("PP-YOLOE_seg", "#0a7ea4"), "solov2": ("SOLOv2", "#b35900"),
    "mask_rcnn": ("Mask R-CNN", "#57606a"), "cascade_mask_rcnn": ("Cascade Mask R-CNN", "#24292f"),
}  # fmt: skip
OTHER_FAMILY = ("other", "#8c959f")
MARKERS = "osD^vP"
PYTORCH = "PyTorch"
# Names of stages in a report, the whole network first.
STAGES = {"network": "network", "end-to-end": "end to end, image to RLE"}
# Places of a label beside its point, in points: the first one where it covers no other label and no point is taken.
_FAR_AND_UP = ((0, (0, 9, -9)), (4, (18, -18)), (14, (0, 27, -27)), (30, (12, -12, 38, -38)))
LABEL_PLACES = [(side * (6 + far), up) for far, ups in _FAR_AND_UP for up in ups for side in (1, -1)]
LEADER = {"arrowstyle": "-", "color": "#8c959f", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4}
NEAR = 12  # points; a label that is farther away has a line to its point


@dataclass(frozen=True)
class Point:
    """A model with a runtime.

    Attributes:
        name: of the config.
        runtime: "PyTorch", or a backend of the benchmark.
        milliseconds: for an image.
        mask_ap: published, percent.
    """

    name: str
    runtime: str
    milliseconds: float
    mask_ap: float


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: plot(arguments))


def plot(arguments: list[str] | None) -> None:
    """Read the files and write the figure.

    Raises:
        UserError: a file is no report, or no model in them has published AP.
    """
    parser = CommandParser("python tools/plot_speed.py", __doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="what the benchmark's --output wrote")
    parser.add_argument("--output", type=Path, default="speed.svg", metavar="FILE", help="figure (default: speed.svg)")
    parser.add_argument("--stage", choices=list(STAGES), default="network", help="what is timed (default: network)")
    args = parser.parse_args(arguments)
    reports = [report for file in args.files for report in read_reports(file)]
    points = [point for report in reports for point in points_of(report, args.stage)]
    if not points:
        raise UserError("No model in these files has published AP.  Benchmark one of `insta-rtdetr models`.")
    draw(points, f"{STAGES[args.stage]}, {machine_line(reports[0]['machine'])}").savefig(args.output, dpi=200)
    sys.stdout.write(f"{args.output}: {len(points)} points\n")


def read_reports(file: Path) -> list[dict]:
    """Read the reports of a file; the benchmark of one model writes a single one.

    Raises:
        UserError: the file is none of the benchmark's.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        reports = content if isinstance(content, list) else [content]
        is_right = all(report.get("config_file") and machine_line(report["machine"]) for report in reports)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{file} is no report of this benchmark: {error}.  Give what its --output wrote.") from error
    if not is_right:
        raise UserError(f"{file} is no report of this benchmark.  Give what its --output wrote.")
    return reports


def points_of(report: dict, stage: str) -> Iterator[Point]:
    """Yield the points of a report; backends that find other objects than the model are left out."""
    name = Path(report["config_file"]).stem
    published = published_files().get(name)
    if published is None or published.mask_ap is None:
        return
    if "backends" in report:
        key = "network_ms" if stage == "network" else "end_to_end_ms"
        for row in report["backends"]:
            if row["parity"] != "FAILED":
                runtime = PYTORCH if row["backend"] == "eager" else row["backend"]
                yield Point(name, runtime, row[key]["median"], published.mask_ap)
        return
    stages = report["stages_ms"]
    # Detectron2's own models have one stage for network and postprocessing.
    times = stages.get("network", stages.get("model")) if stage == "network" else report["end_to_end_ms"]
    yield Point(name, PYTORCH, times["median"] / report["batch_size"], published.mask_ap)


def front(points: list[Point]) -> list[Point]:
    """Return the points that no other one beats in both, the fastest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.milliseconds, -point.mask_ap)):
        if not best or point.mask_ap > best[-1].mask_ap:
            best.append(point)
    return best


def draw(points: list[Point], title: str) -> Figure:
    """Return the figure; a model's label stands at its fastest point."""
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    runtimes = sorted({point.runtime for point in points}, key=lambda name: (name != PYTORCH, name))
    best = front(points)
    axes.plot([p.milliseconds for p in best], [p.mask_ap for p in best], color="#dde3ea", linewidth=4, zorder=1)
    for point in points:
        marker = MARKERS[runtimes.index(point.runtime) % len(MARKERS)]
        axes.scatter(point.milliseconds, point.mask_ap, s=48, color=family(point.name)[1], marker=marker, zorder=3)
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds for an image, logarithmic")
    axes.set_ylabel("published mask AP, COCO val2017")
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(True, which="both", color="#eaeef2")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.margins(x=0.17, y=0.08)
    add_legends(axes, points, runtimes)
    fastest = {point.name: point for point in sorted(points, key=lambda point: -point.milliseconds)}
    add_labels(axes, list(fastest.values()))
    return figure


def family(name: str) -> tuple[str, str]:
    """Return the family of a config and its colour."""
    return next((found for start, found in FAMILIES.items() if name.startswith(start)), OTHER_FAMILY)


def add_legends(axes: Axes, points: list[Point], runtimes: list[str]) -> None:
    """Say what colours mean, and markers where there are several."""
    families = dict(family(point.name) for point in points)
    entries = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in families.items()]
    if len(runtimes) > 1:
        entries += [
            Line2D([], [], marker=MARKERS[index % len(MARKERS)], linestyle="", color="#57606a", label=name)
            for index, name in enumerate(runtimes)
        ]
    axes.legend(handles=entries, fontsize=8, loc="best")


def add_labels(axes: Axes, points: list[Point]) -> None:
    """Write the models' names beside their points, where they cover neither each other nor a point."""
    figure = axes.figure
    figure.draw_without_rendering()  # Places are right only after the layout is made.
    dot = 4 * figure.dpi / 72
    at = axes.transData.transform([(point.milliseconds, point.mask_ap) for point in points])
    taken = [Bbox.from_extents(x - dot, y - dot, x + dot, y + dot) for x, y in at]
    taken.append(axes.get_legend().get_window_extent())
    for point, text in zip(points, short_names([point.name for point in points])):
        taken.append(add_label(axes, point, text, taken))


def add_label(axes: Axes, point: Point, text: str, taken: list[Bbox]) -> Bbox:
    """Write a model's name at the first free place, or at the last one, and return the area that it covers."""
    frame = axes.get_window_extent()
    place_of = {"xy": (point.milliseconds, point.mask_ap), "textcoords": "offset points", "va": "center"}
    for offset in LABEL_PLACES:
        side = "left" if offset[0] > 0 else "right"
        label = axes.annotate(
            text, xytext=offset, ha=side, fontsize=8, color=family(point.name)[1], zorder=4, **place_of
        )
        place = label.get_window_extent()
        is_inside = frame.x0 <= place.x0 and place.x1 <= frame.x1 and frame.y0 <= place.y0 and place.y1 <= frame.y1
        if offset == LABEL_PLACES[-1] or (is_inside and not place.count_overlaps(taken)):
            if math.hypot(*offset) > NEAR:
                axes.annotate("", xytext=offset, arrowprops=LEADER, **place_of)
            return place
        label.remove()
    raise AssertionError("The last place is always taken.")


def short_names(names: list[str]) -> list[str]:
    """Return the names of configs without their families, and without words that all of a family have.

    A letter or two are too little to be seen: such names keep all words.
    """
    words = {name: _without_family(name).split("_") for name in names}
    short = []
    for name in names:
        others = [words[other] for other in names if family(other) == family(name)]
        kept = "_".join(word for word in words[name] if not all(word in other for other in others))
        short.append(kept if len(kept) > 2 else "_".join(words[name]))
    return short


def _without_family(name: str) -> str:
    start = next((start for start in FAMILIES if name.startswith(start)), "")
    return name.removeprefix(start).strip("_") or name


if __name__ == "__main__":
    sys.exit(main())
