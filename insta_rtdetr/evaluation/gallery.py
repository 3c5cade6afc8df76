"""Drawing predictions.png and worst.png: validation images with ground truth and predictions side by side."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from insta_rtdetr.data.segmentation import rasterise
from insta_rtdetr.image_file import UNREADABLE, read_rgb
from insta_rtdetr.visualization import Color, MaskCrop, assign_colors, draw_labels, font, paint, write_image

from .mistakes import DUPLICATE, INEXACT, MISSED, MISTAKES, NOTHING_THERE, RIGHT, WRONG_CLASS, ComparedImage, compare

NUM_IMAGES = 8
PAIRS_IN_A_ROW = 2
# Sizes in pixels: the longest side of an image in the figure, the gap between images, and the height of a text line.
PANEL_SIDE, GAP, LINE = 400, 12, 18

VERDICT_COLORS: dict[str, Color] = {
    RIGHT: (60, 180, 75),
    MISSED: (230, 25, 75),
    DUPLICATE: (245, 150, 30),
    WRONG_CLASS: (220, 60, 230),
    INEXACT: (255, 225, 25),
    NOTHING_THERE: (60, 110, 255),
}


@dataclass(frozen=True)
class Style:
    """The colours and names that objects are drawn with.

    Attributes:
        names: category id -> name of the class.
        by_verdict: whether the colours show verdicts; otherwise they show classes, or objects if there is one class.
    """

    names: dict[int, str]
    by_verdict: bool

    def colors(self, objects: Sequence[dict], verdicts: Sequence[str]) -> list[Color]:
        """Return a colour for each object."""
        if self.by_verdict:
            return [VERDICT_COLORS[verdict] for verdict in verdicts]
        order = list(self.names)
        class_ids = np.array([order.index(one["category_id"]) for one in objects], dtype=int)
        return assign_colors(boxes_xyxy(objects), class_ids, len(order) == 1)


def write_galleries(truth: COCO, found: Sequence[dict], image_root: str, folder: str | os.PathLike) -> None:
    """Write predictions.png, eight images spread over the dataset, and worst.png, the eight with the most mistakes.

    Images that cannot be read are left out.  If there is nothing to draw, no file is written and an old one is removed.

    Args:
        truth: the dataset.
        found: predictions in COCO's format of results.
        image_root: folder that the dataset's file names are relative to.
        folder: folder of the two files.

    Raises:
        OSError: a file cannot be written.
    """
    compared, threshold = compare(truth, found)
    names = {category_id: category["name"] for category_id, category in truth.cats.items()}
    worst = sorted(compared, key=lambda one: (-one.mistakes.total(), one.image["id"]))[:NUM_IMAGES]
    sides = f"truth left, prediction right (score of {threshold:.2f} or more: the best F1 on these images)"
    for file_name, images, title, style in (
        ("predictions.png", _spread(compared), f"Validation: {sides}", Style(names, by_verdict=False)),
        ("worst.png", [one for one in worst if one.mistakes], f"Most mistakes: {sides}", Style(names, by_verdict=True)),
    ):
        pairs = [pair for one in images if (pair := _draw_pair(one, image_root, style)) is not None]
        file = Path(folder) / file_name
        if pairs:
            write_image(np.asarray(_put_together(pairs, title, style)), file)
        else:
            file.unlink(missing_ok=True)


def _spread(compared: list[ComparedImage]) -> list[ComparedImage]:
    wanted = [one for one in compared if one.truths] or compared
    steps = np.linspace(0, len(wanted) - 1, min(NUM_IMAGES, len(wanted))).round().astype(int)
    return [wanted[step] for step in steps]


def _draw_pair(compared: ComparedImage, image_root: str, style: Style) -> Image.Image | None:
    """Draw ground truth and predictions side by side below a caption; return None if the image cannot be read."""
    try:
        image = Image.fromarray(read_rgb(os.path.join(image_root, compared.image["file_name"])))
    except UNREADABLE:
        return None
    factor = PANEL_SIDE / max(image.size)
    image = image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.LANCZOS)
    pair = Image.new("RGB", (2 * PANEL_SIDE + GAP, image.height + 2 * LINE), "white")
    sides = ((compared.truths, compared.truth_verdicts), (compared.found, compared.found_verdicts))
    for number, (objects, verdicts) in enumerate(sides):
        panel = _draw_objects(image, compared, objects, style.colors(objects, verdicts), style.names)
        pair.paste(panel, (number * (PANEL_SIDE + GAP), 2 * LINE))
    counts = f"{len(compared.truths)} objects, {len(compared.found)} found: {_count(compared)}"
    for number, line in enumerate((Path(compared.image["file_name"]).name[-90:], counts)):
        ImageDraw.Draw(pair).text((0, number * LINE), line, "black", font(12))
    return pair


def _count(compared: ComparedImage) -> str:
    counts = compared.mistakes
    return ", ".join(f"{counts[kind]} {kind}" for kind in MISTAKES if counts[kind]) or "no mistake"


def _draw_objects(
    image: Image.Image, compared: ComparedImage, objects: Sequence[dict], colors: Sequence[Color], names: dict[int, str]
) -> Image.Image:
    """Draw masks, or boxes of objects without a mask, and the names of classes if there are several."""
    pixels = np.array(image)
    size_hw = compared.image["height"], compared.image["width"]
    scale = image.width / size_hw[1]
    for one, color in zip(objects, colors):
        if segmentation := one.get("segmentation"):
            mask = mask_util.decode(rasterise(segmentation, *size_hw)).astype(bool)
            paint(pixels, MaskCrop.of(mask), color, scale)
    boxes = boxes_xyxy(objects) * scale
    drawn = Image.fromarray(pixels)
    for one, box, color in zip(objects, boxes.tolist(), colors):
        if not one.get("segmentation"):
            ImageDraw.Draw(drawn).rectangle(box, outline=color)
    if len(names) == 1:
        return drawn
    texts = [
        (names.get(one["category_id"], "?") + (f" {int(100 * one['score'])}%" if "score" in one else ""),)
        for one in objects
    ]
    return Image.fromarray(draw_labels(np.asarray(drawn), boxes, texts, colors))


def boxes_xyxy(objects: Sequence[dict]) -> np.ndarray:
    """Return the boxes of annotations or results as (N, 4): left, top, right, bottom in pixels."""
    boxes = np.array([one["bbox"] for one in objects], dtype=float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _put_together(pairs: Sequence[Image.Image], title: str, style: Style) -> Image.Image:
    """Arrange pairs in rows below a title and, if colours show verdicts, a legend."""
    rows = [pairs[start : start + PAIRS_IN_A_ROW] for start in range(0, len(pairs), PAIRS_IN_A_ROW)]
    heights = [max(pair.height for pair in row) + GAP for row in rows]
    width = max(len(row) for row in rows) * (pairs[0].width + 2 * GAP)
    figure = Image.new("RGB", (width, sum(heights) + 4 * LINE), "white")
    canvas = ImageDraw.Draw(figure)
    canvas.text((GAP, LINE // 2), title, "black", font(15))
    place = GAP
    for verdict, color in VERDICT_COLORS.items() if style.by_verdict else ():
        canvas.rectangle([place, 2 * LINE, place + LINE, 2 * LINE + 12], fill=color)
        canvas.text((place + LINE + 5, 2 * LINE - 1), verdict, "black", font(12))
        place += 130
    top = 4 * LINE if style.by_verdict else 2 * LINE
    for row, height in zip(rows, heights):
        for number, pair in enumerate(row):
            figure.paste(pair, (GAP + number * (pair.width + 2 * GAP), top))
        top += height
    return figure.crop((0, 0, width, top))
