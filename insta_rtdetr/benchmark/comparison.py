"""Tables of the times of several backends, for one model and for several models."""

import math
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .report import machine_line
from .timing import ratio, summary, warnings_of

KINDS = {"network": "network", "end_to_end": "end to end"}


def describe_times(times: dict[str, list[list[float]]], names: list[str], runs: int) -> tuple[list[dict], list[str]]:
    """Summarise the times of the backends.

    Args:
        times: for each of `KINDS`, the milliseconds of the runs of each backend.
        names: names of the backends; ratios are to the first.
        runs: number of timed runs.

    Returns:
        a dict for each backend, with "<kind>_ms", see `summary`, and "<kind>_ratio" for each of `KINDS`; and warnings.
    """
    rows: list[dict[str, Any]] = [{} for _ in names]
    summaries = {}
    for kind, measured in times.items():
        for name, row, one in zip(names, rows, measured):
            row[f"{kind}_ms"] = summary(one)
            row[f"{kind}_ratio"] = ratio(one, measured[0])
            summaries[f"{name}, {KINDS[kind]}"] = row[f"{kind}_ms"]
    return rows, warnings_of(summaries, runs)


def compare_models(reports: list[dict]) -> str:
    """Format a table with a row for each model: the network's milliseconds with each backend.

    The ratio is the lowest one, to the first backend, of the backends that did not fail the comparison.
    """
    lines = []
    for report in reports:
        rows = report["backends"]
        cells = [f"{row['network_ms']['median']:.0f}{' (differs)' * (row['parity'] == 'FAILED')}" for row in rows]
        best = min((row["network_ratio"] for row in rows if row["parity"] != "FAILED"), default=math.nan)
        lines.append([Path(report["config_file"]).stem, *cells, f"{best:.2f}"])
    headers = ["network, ms", *(row["backend"] for row in reports[0]["backends"]), "best ratio"]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def to_markdown(report: dict) -> str:
    """Format the report as a Markdown table with ratios to the first backend, followed by its warnings."""
    headers = ["backend", "precision"]
    for name in KINDS.values():
        headers += [f"{name}, ms", "spread", "ratio"]
    cells = []
    for row in report["backends"]:
        figures = []
        for kind in KINDS:
            one = row[f"{kind}_ms"]
            figures += [f"{one['median']:.1f}", f"{one['spread']:.0%}", f"{row[f'{kind}_ratio']:.2f}"]
        cells.append([row["backend"], row["precision"], *figures, row["parity"]])
    title = f"{report['config_file']}, {machine_line(report['machine'])}, {report['runs']} runs"
    table = tabulate(cells, headers=[*headers, "parity"], tablefmt="github", disable_numparse=True)
    return "\n".join([title, "", table, *(f"Warning: {warning}" for warning in report["warnings"])])
