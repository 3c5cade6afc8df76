#!/usr/bin/env python3
"""Draw the architecture of each model family: docs/images/models/NAME.svg.

    python tools/draw_models.py

The upper row is what every query goes through, the lower one how it gets its mask.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images" / "models"
BOX_WIDTH, BOX_HEIGHT, GAP = 2.5, 1.25, 0.55
UPPER, LOWER = 2.1, 0.0
# Fill and edge of boxes: the image, learned parts, results.
COLOURS = {"input": ("#eef1f5", "#7a8594"), "part": ("#e3edff", "#1f6feb"), "result": ("#fff3cc", "#b58100")}


@dataclass(frozen=True)
class Architecture:
    """What is drawn of a family; every part is (title, details).

    Attributes:
        backbone, encoder, selection, decoder: parts of the upper row.
        masks: what the masks are read from.
        product: how a query's mask comes about.
        results: what comes out beside masks.
        mask_sources: parts that feed the mask features.
        mask_details: what else masks give.
    """

    backbone: tuple[str, str]
    encoder: tuple[str, str]
    selection: tuple[str, str]
    decoder: tuple[str, str]
    masks: tuple[str, str]
    product: tuple[str, str]
    results: str
    mask_sources: tuple[str, ...]
    mask_details: str = ""


ARCHITECTURES = {
    "insta_rtdetr": Architecture(
        ("ResNet-vd", "strides 4 to 32"),
        ("Hybrid encoder", "attention on stride 32,\nconvolutions between levels"),
        ("Query selection", "positions most like\nan object, 300 at most"),
        ("Deformable decoder", "1 to 6 layers; each looks at\na few points and moves boxes"),
        ("Mask features", "stride 4, of the backbone\nand the pyramid"),
        ("Dot product", "of a query's embedding\nand the features"),
        "classes, boxes",
        ("backbone", "encoder"),
    ),
    "fastinst": Architecture(
        ("ResNet", "strides 8 to 32"),
        ("PPM-FPN", "pyramid pooling on stride 32,\nthen a feature pyramid"),
        ("Query proposal", "local maxima of a\nclass map, 100 queries"),
        ("Dual-path decoder", "pixels read queries, queries\nread pixels of their masks"),
        ("Pixel features", "stride 8, renewed\nby every layer"),
        ("Dot product", "of a query's embedding\nand the pixels"),
        "classes",
        ("encoder", "decoder"),
        "and the boxes around them",
    ),
    "mask_rtdetr": Architecture(
        ("PP-HGNetV2", "strides 4 to 32"),
        ("Hybrid encoder", "attention on stride 32,\nconvolutions between levels"),
        ("Query selection", "300 positions; boxes start\naround their masks"),
        ("Deformable decoder", "6 layers, which share\ntheir heads"),
        ("Prototypes", "stride 4, a light\nmask pyramid"),
        ("Dot product", "of a query's embedding\nand the prototypes"),
        "classes, boxes",
        ("backbone", "encoder"),
    ),
    "rfdetr_seg": Architecture(
        ("DINOv2-small", "tokens attend within\nwindows, and at times to all"),
        ("C2f projector", "one level of one width"),
        ("Query selection", "100 to 300 positions;\n13 groups in training"),
        ("Light decoder", "4 to 6 layers of\ndeformable attention"),
        ("Mask features", "stride 4, refined by a\ndepthwise block each layer"),
        ("Dot product", "of a query's embedding\nand the features, and a bias"),
        "classes, boxes",
        ("encoder",),
    ),
    "maskdino": Architecture(
        ("ResNet-50", "strides 4 to 32"),
        ("Deformable encoder", "6 layers; positions look at\npoints of all levels"),
        ("Query selection", "300 positions; boxes start\naround their masks"),
        ("Deformable decoder", "9 layers with\none shared set of heads"),
        ("Mask features", "stride 4, of the backbone\nand the finest level"),
        ("Dot product", "of a query's embedding\nand the features"),
        "classes, boxes",
        ("backbone", "encoder"),
    ),
    "sparseinst": Architecture(
        ("ResNet-50", "strides 8 to 32"),
        ("Context encoder", "pyramid pooling, then\none level of stride 8"),
        ("Activation maps", "100 maps, of which each\nweighs the features"),
        ("Query means", "a query is the mean of the\nfeatures under its map"),
        ("Mask features", "stride 8, of the encoder\nand the places"),
        ("Dot product", "of a query's kernel\nand the features"),
        "classes, objectness",
        ("encoder",),
    ),
    "ppyoloe_seg": Architecture(
        ("CSPRepResNet", "strides 8 to 32, channels\nweighted by attention"),
        ("CSP-PAN", "pooling on stride 32, then\ndown the levels and up again"),
        ("Every position", "of strides 8, 16, 32:\n8,400 in all"),
        ("Task-aligned head", "a branch each for classes,\nsides of boxes, and masks"),
        ("Prototypes", "stride 4, of the\nfinest level"),
        ("Dot product", "of a position's embedding and\nthe prototypes, within its box"),
        "classes, boxes",
        ("encoder",),
    ),
    "solov2": Architecture(
        ("ResNet-50 and FPN", "five levels of\none width"),
        ("Mask encoder", "four levels enlarged\nand added up"),
        ("Grids", "of 40 to 12 cells along a\nside, one for each level"),
        ("Cells", "an object answers in\nthe cell of its centre"),
        ("Mask features", "stride 4, which\nknow their places"),
        ("Dot product", "of a cell's kernel and\nthe features; Matrix NMS"),
        "classes",
        ("encoder",),
        "and the boxes around them",
    ),
    "paddlex_rcnn": Architecture(
        ("ResNet, ResNet-vd", "strides 4 to 32"),
        ("FPN", "five levels of\none width"),
        ("Proposals", "anchors most like\nan object, 1,000 at most"),
        ("Box heads", "one, or three in turn,\non pooled features"),
        ("Region features", "pooled in the\nboxes found"),
        ("Convolutions", "a mask of 28 x 28\nfor each class"),
        "classes, boxes",
        ("encoder", "decoder"),
    ),
}


def main() -> int:
    """Write the figures and return the exit code."""
    FOLDER.mkdir(exist_ok=True)
    for name, architecture in ARCHITECTURES.items():
        target = FOLDER / f"{name}.svg"
        draw(architecture).savefig(target, metadata={"Date": None})
        sys.stdout.write(f"{target}\n")
    return 0


def draw(architecture: Architecture) -> Figure:
    """Return the figure of a family."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    parts = ("image", "backbone", "encoder", "selection", "decoder", "results")
    columns = {name: index * (BOX_WIDTH + GAP) for index, name in enumerate(parts)}
    upper = {name: (columns[name], UPPER) for name in parts}
    mask_place, product_place = (columns["encoder"], LOWER), (columns["decoder"], LOWER)
    found_place = (columns["results"], LOWER)
    for start, end in zip(parts, parts[1:]):
        arrow(axes, upper[start], upper[end])
    for source in architecture.mask_sources:
        arrow(axes, upper[source], mask_place)
    for start, end in ((mask_place, product_place), (upper["decoder"], product_place), (product_place, found_place)):
        arrow(axes, start, end)
    box(axes, upper["image"], ("Image", "normalised"), "input")
    for name in ("backbone", "encoder", "selection", "decoder"):
        box(axes, upper[name], getattr(architecture, name), "part")
    box(axes, mask_place, architecture.masks, "part")
    box(axes, product_place, architecture.product, "part")
    box(axes, upper["results"], (architecture.results, ""), "result")
    box(axes, found_place, ("masks", architecture.mask_details), "result")
    axes.set_xlim(-BOX_WIDTH / 2 - 0.1, columns["results"] + BOX_WIDTH / 2 + 0.1)
    axes.set_ylim(LOWER - BOX_HEIGHT / 2 - 0.1, UPPER + BOX_HEIGHT / 2 + 0.1)
    axes.axis("off")
    return figure


def box(axes: Axes, centre: tuple[float, float], text: tuple[str, str], kind: str) -> None:
    """Draw a part with its title and details."""
    (x, y), (title, details) = centre, text
    fill, edge = COLOURS[kind]
    corner = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(
        FancyBboxPatch(corner, BOX_WIDTH, BOX_HEIGHT, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=1.2)
    )
    axes.text(x, y + (0.28 if details else 0), title, ha="center", va="center", fontsize=9.5, weight="bold")
    axes.text(x, y - 0.22, details, ha="center", va="center", fontsize=7.4, color="#333333", linespacing=1.25)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow from box to box, from side to side in a row, else from below to above."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:
        tail, head = (x0 + BOX_WIDTH / 2, y0), (x1 - BOX_WIDTH / 2, y1)
    else:
        # Arrows from other columns end beside the middle.
        shift = 0.3 * BOX_WIDTH * ((x0 > x1) - (x0 < x1))
        tail, head = (x0, y0 - BOX_HEIGHT / 2), (x1 + shift, y1 + BOX_HEIGHT / 2)
    axes.add_patch(FancyArrowPatch(tail, head, arrowstyle="-|>", mutation_scale=11, color="#52606d", linewidth=1.1,
                                   shrinkA=0, shrinkB=0))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
