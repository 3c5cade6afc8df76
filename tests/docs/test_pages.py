"""Every command and program of the documentation runs and prints what is shown; the slow ones if DOCS_SLOW is set."""

import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY

import insta_rtdetr.engine.run
from insta_rtdetr.export import formats
from insta_rtdetr.modeling.loss.criterion import CLASS_LOSSES
from insta_rtdetr.predict.runtime import session
from insta_rtdetr.zoo.cache import CACHE_VARIABLE

from .blocks import MARKS, OTHER_LANGUAGES, OUTPUT_LANGUAGE, RUN_LANGUAGES, blocks_of, pages
from .running import PageRunner
from .shortened.sitecustomize import shorten
from .workspace import ITERATIONS, environment, make_workspace, write_weights

WITH_SLOW = bool(os.environ.get("DOCS_SLOW"))
# What the page on extending adds to.
REGISTERS = (META_ARCH_REGISTRY._obj_map, CLASS_LOSSES, formats.WRITERS, session.ENDINGS, session.SESSIONS)
# The longest first.
PAGES = sorted(pages(), key=lambda page: -len(blocks_of(page)))


def runs_here(page: str) -> bool:
    return any(block.is_run and (WITH_SLOW or "slow" not in block.marks) for block in blocks_of(page))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Weights that the pages take from the internet."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        write_weights(folder)
        yield folder


@pytest.fixture
def runner(cache, tmp_path, monkeypatch) -> PageRunner:
    """A runner whose trainings are short, in a folder that is gone afterwards."""
    monkeypatch.setattr(insta_rtdetr.engine.run, "train", shorten(insta_rtdetr.engine.run.train, ITERATIONS))
    folder = make_workspace(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("COLUMNS", environment()["COLUMNS"])
    registered, registers = set(DatasetCatalog), [dict(register) for register in REGISTERS]
    yield PageRunner(folder, WITH_SLOW)
    for name in set(DatasetCatalog) - registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    for register, before in zip(REGISTERS, registers, strict=True):
        register.clear()
        register.update(before)


@pytest.mark.parametrize("page", [page for page in PAGES if runs_here(page)])
def test_a_page_does_what_it_shows(page, runner):
    runner.run(blocks_of(page))


@pytest.mark.parametrize("page", PAGES)
def test_languages_and_comments_of_blocks_are_known_and_have_reasons(page):
    for block in blocks_of(page):
        assert block.language in (*RUN_LANGUAGES, OUTPUT_LANGUAGE, *OTHER_LANGUAGES), block.place
        assert set(block.marks) <= set(MARKS), block.place
        for mark in ("not run", "background", "file"):
            assert block.marks.get(mark) != "", f"{block.place}: {mark} without a reason or value"
