"""The tables of models say what the package says of its models."""

import re

import pytest

from insta_rtdetr.zoo import config_files, published_files
from insta_rtdetr.zoo.table import measurements

from .blocks import ROOT

MODELS_PAGE, README = "docs/models/index.md", "README.md"
NAME = re.compile(r"`([\w-]+)`")


def rows(page: str) -> dict[str, list[str]]:
    """Config -> cells after its name, of the tables whose rows begin with the name of a config and its published AP."""
    lines = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {NAME.fullmatch(row[0])[1]: row[1:] for row in cells if re.fullmatch(r"[\d.]+", row[1])}


def with_published_ap() -> list[str]:
    return sorted(name for name in config_files() if name in published_files() and published_files()[name].mask_ap)


def cells_of(name: str, unit: str = "") -> list[str]:
    """AP, AP, parameters."""
    published = published_files()[name]
    parameters = f"{measurements()[name]['parameters'] / 1e6:.1f}{unit}"
    return [f"{published.mask_ap:.1f}", f"{published.box_ap:.1f}" if published.box_ap else "", parameters]


def test_the_page_on_models_has_every_model_with_published_ap():
    found = rows(MODELS_PAGE)
    assert sorted(found) == with_published_ap()
    for name, cells in found.items():
        measured, published = measurements()[name], published_files()[name]
        size = "{} x {}".format(*measured["input"])
        wanted = [*cells_of(name), f"{measured['gflops']:.1f}", size, published.licence]
        assert cells == wanted, name


def test_the_readme_has_the_same_figures():
    found = rows(README)
    assert len(found) > 5
    for name, cells in found.items():
        assert cells[:3] == cells_of(name, unit=" M"), name


@pytest.mark.parametrize("page", [MODELS_PAGE, README])
def test_models_that_are_named_exist(page):
    names = [name for name in NAME.findall((ROOT / page).read_text()) if re.fullmatch(r"\w+_\w*\d{3}", name)]
    assert names and set(names) <= set(config_files())
