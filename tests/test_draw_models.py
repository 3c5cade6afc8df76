"""The figures of the model families: each family has one, and no text leaves its box."""

import importlib.util
import sys
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]


def load_tool():
    spec = importlib.util.spec_from_file_location("draw_models", ROOT / "tools/draw_models.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


TOOL = load_tool()


def test_every_page_of_a_family_has_its_figure():
    pages = sorted(page.stem for page in (ROOT / "docs/models").glob("*.md") if page.stem != "index")
    assert pages == sorted(TOOL.ARCHITECTURES)
    for name in pages:
        assert f"../images/models/{name}.svg" in (ROOT / f"docs/models/{name}.md").read_text()
        assert (ROOT / f"docs/images/models/{name}.svg").is_file()


@pytest.mark.parametrize("name", TOOL.ARCHITECTURES)
def test_texts_stay_in_their_boxes(name):
    figure = TOOL.draw(TOOL.ARCHITECTURES[name])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes, renderer = figure.axes[0], canvas.get_renderer()
    boxes = [patch.get_window_extent(renderer) for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    for text in axes.texts:
        if text.get_text():
            place = text.get_window_extent(renderer)
            assert any(
                box.x0 < place.x0 and place.x1 < box.x1 and box.y0 < place.y0 and place.y1 < box.y1 for box in boxes
            ), text.get_text()
