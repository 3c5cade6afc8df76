#!/usr/bin/env python3
"""Draw the map of the packages from their imports: docs/images/packages.svg.

    python tools/draw_packages.py

Rows are the layers of pyproject.toml.  An arrow runs from a package to one that it imports.  An arrow that others imply
(A imports B, B imports C, so A may as well import C) is left out.  So are arrows to the foundation, the lowest layers,
which everything may import.
"""

import ast
import itertools
import sys
import tomllib
from pathlib import Path

import grimp
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "insta_rtdetr"
ROW_HEIGHT, BOX_HEIGHT, BOX_WIDTH, GAP = 1.0, 0.56, 2.3, 0.35
# Modules that are not drawn: the command line is the highest layer and imports everything.
LEFT_OUT = ("__main__", "cli")
NUM_FOUNDATION_ROWS = 3
# Horizontal shifts of boxes, so that no arrow crosses a box.
SHIFTS = {"doctor": 2 * (BOX_WIDTH + GAP)}

Place = tuple[float, float]


def main() -> int:
    """Write the figure and return the exit code."""
    rows = read_layers()
    places = place_boxes(rows)
    figure = Figure(figsize=(12, 0.85 * len(rows)), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    draw_foundation(axes)
    for importer, imported in without_implied(read_imports(list(places))):
        if places[imported][1] >= NUM_FOUNDATION_ROWS * ROW_HEIGHT:
            draw_arrow(axes, places[importer], places[imported])
    for name, place in places.items():
        draw_box(axes, name, place)
    axes.set_xlim(-7.2, 7.2)
    axes.set_ylim(-0.6, ROW_HEIGHT * len(rows) - 0.4)
    axes.axis("off")
    target = ROOT / "docs" / "images" / "packages.svg"
    figure.savefig(target, metadata={"Date": None})
    sys.stdout.write(f"{target}\n")
    return 0


def read_layers() -> list[list[str]]:
    """Return the names of the modules in each layer, the highest layer first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["containers"] == [PACKAGE])
    rows = [[name for name in layer.replace("|", " ").replace(":", " ").split() if name not in LEFT_OUT]
            for layer in layers]  # fmt: skip
    return [row for row in rows if row]


def place_boxes(rows: list[list[str]]) -> dict[str, Place]:
    """Return the centre (x, y) of each box; a row is centred at x = 0, and the lowest row lies at y = 0."""
    places = {}
    for y, row in enumerate(reversed(rows)):
        for i, name in enumerate(row):
            x = (i - (len(row) - 1) / 2) * (BOX_WIDTH + GAP) + SHIFTS.get(name, 0.0)
            places[name] = (x, y * ROW_HEIGHT)
    return places


def read_imports(names: list[str]) -> set[tuple[str, str]]:
    """Return the pairs (importer, imported) of two different modules or packages of these names."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    for name in names:
        if graph.find_children(f"{PACKAGE}.{name}"):
            graph.squash_module(f"{PACKAGE}.{name}")
    pairs = itertools.permutations(names, 2)
    return {
        (a, b) for a, b in pairs if graph.direct_import_exists(importer=f"{PACKAGE}.{a}", imported=f"{PACKAGE}.{b}")
    }


def without_implied(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the transitive reduction of an acyclic graph, given and returned as pairs."""
    below: dict[str, set[str]] = {}

    def reachable(name: str) -> set[str]:
        if name not in below:
            direct = {b for a, b in pairs if a == name}
            below[name] = direct.union(*(reachable(b) for b in direct))
        return below[name]

    return {(a, b) for a, b in pairs if not any(b in reachable(c) for x, c in pairs if x == a and c != b)}


def draw_box(axes: Axes, name: str, place: Place) -> None:
    """Draw a package with its number of lines."""
    x, y = place
    box = FancyBboxPatch(
        (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2), BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.12",
        facecolor="#e8eef7", edgecolor="#34568b", linewidth=1.2, zorder=3,
    )  # fmt: skip
    axes.add_patch(box)
    text = {"ha": "center", "va": "center", "zorder": 4}
    axes.text(x, y + 0.08, name, fontsize=11, weight="bold", color="#1d2f4f", **text)
    axes.text(x, y - 0.15, f"{count_lines(name):,} lines", fontsize=8, color="#4a5568", **text)


def draw_foundation(axes: Axes) -> None:
    """Draw the band behind the lowest layers."""
    height = NUM_FOUNDATION_ROWS * ROW_HEIGHT
    band = FancyBboxPatch(
        (-6.9, -ROW_HEIGHT / 2), 13.8, height, boxstyle="round,pad=0,rounding_size=0.2", facecolor="#f5f2ea",
        edgecolor="none", zorder=0,
    )  # fmt: skip
    axes.add_patch(band)
    axes.text(-6.75, height - 0.75, "foundation", fontsize=10, style="italic", color="#8a7f66", va="center", zorder=1)


def draw_arrow(axes: Axes, start: Place, end: Place) -> None:
    """Draw an arrow from the lower edge of a box to the upper edge of one in the next row, else to the side of one."""
    (x0, y0), (x1, y1) = start, end
    is_next = y0 - y1 < 1.5 * ROW_HEIGHT
    side = 1 if x0 >= x1 else -1
    target = (x1, y1 + BOX_HEIGHT / 2) if is_next else (x1 + side * BOX_WIDTH / 2, y1)
    bend = 0.0 if is_next or x0 == x1 else -0.25 * side
    axes.add_patch(
        FancyArrowPatch(
            (x0, y0 - BOX_HEIGHT / 2), target, arrowstyle="-|>", mutation_scale=12, shrinkA=0, shrinkB=0,
            connectionstyle=f"arc3,rad={bend}", color="#6b7f9e", linewidth=1.3, zorder=2,
        )
    )  # fmt: skip


def count_lines(name: str) -> int:
    """Return the lines of Python in a module or package, without docstrings, comments and blank lines."""
    path = ROOT / PACKAGE / name
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return sum(len(ast.unparse(_without_docstrings(file)).splitlines()) for file in files)


def _without_docstrings(file: Path) -> ast.Module:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


if __name__ == "__main__":
    sys.exit(main())
