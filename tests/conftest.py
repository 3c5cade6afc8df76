"""What every test leaves as it found it."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.utils.logger import setup_logger

from tests.docs.blocks import not_run

# Where this is set, OpenVINO sends no statistics of its use: it would send dozens for each conversion of a model, each
# from a copy of this process.
os.environ["CI"] = "true"


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """A command run within a test gives the loggers handlers, which write into that test's captured output."""
    loggers = [logging.getLogger(name) for name in (None, "detectron2", "fvcore", "insta_rtdetr")]
    handlers = [list(logger.handlers) for logger in loggers]
    yield
    for logger, before in zip(loggers, handlers, strict=True):
        logger.handlers[:] = before
    # It remembers which loggers it has set up.
    setup_logger.cache_clear()


@pytest.fixture
def empty_curves(monkeypatch) -> None:
    """Write an empty curves.png after each evaluation, because drawing it takes longer than a tiny training."""
    monkeypatch.setattr("insta_rtdetr.engine.hooks.draw_curves", lambda metrics, image, batch_size: Path(image).touch())


# The files that take longest, longest first: one that is begun last keeps a single process busy while the others wait.
SLOW_FILES = (
    "tests/export/test_export.py",
    "tests/modeling/meta_arch/test_paddle_rcnn_parity.py",
    "tests/modeling/meta_arch/test_rfdetr_seg_parity.py",
    "tests/modeling/meta_arch/test_mask_rtdetr_parity.py",
    "tests/docs/test_pages.py",
    "tests/modeling/meta_arch/test_fastinst_parity.py",
    "tests/predict/test_distributed.py",
    "tests/test_benchmarks.py",
    "tests/zoo/test_models.py",
    "tests/modeling/test_fake_cuda.py",
    "tests/modeling/meta_arch/test_parity.py",
    "tests/benchmark/test_benchmark.py",
    "tests/modeling/meta_arch/test_solov2_parity.py",
    "tests/modeling/meta_arch/test_ppyoloe_seg_parity.py",
    "tests/engine/test_distributed.py",
    "tests/engine/test_stopping.py",
    "tests/engine/test_stage.py",
    "tests/predict/test_offline.py",
    "tests/test_configs.py",
    "tests/test_demo.py",
    "tests/test_train_net.py",
    "tests/web/test_browser.py",
    "tests/modeling/meta_arch/test_maskdino_parity.py",
    "tests/modeling/meta_arch/test_sparseinst_parity.py",
    "tests/modeling/loss/test_criterion.py",
    "tests/engine/test_run.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files; all others keep their order."""
    rank = {name: position for position, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: rank.get(item.location[0], len(SLOW_FILES)))


def pytest_collection_finish() -> None:
    """Take all modules and tests out of garbage collection, which would look at each of them dozens of times."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter) -> None:
    """Say which commands of the documentation no test runs, if the others were run."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    if any(getattr(report, "nodeid", "").startswith("tests/docs/test_pages.py") for report in reports):
        terminalreporter.section("blocks of the documentation that are not run")
        terminalreporter.write("\n".join(not_run()) + "\n")
