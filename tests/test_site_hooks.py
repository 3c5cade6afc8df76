"""What the site changes in the pages: links into the repository, and the tables of config keys."""

import importlib.util
import re
from pathlib import Path, PurePosixPath

import pytest
from detectron2.config import get_cfg

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.engine.setup import flat_values

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def hooks():
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "tools/site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "source, page, written, on_site",
    [
        ("docs/training.md", "training.md", "[Data](../datasets/README.md#split-it)", "[Data](data.md#split-it)"),
        ("docs/models/maskdino.md", "models/maskdino.md", "[x](../verified.md)", "[x](../verified.md)"),
        ("docs/models/maskdino.md", "models/maskdino.md", "![x](../images/a.svg)", "![x](../images/a.svg)"),
        ("datasets/README.md", "data.md", "[x](../docs/training.md)", "[x](training.md)"),
        ("CONTRIBUTING.md", "contributing.md", "[x](docs/extending.md)", "[x](extending.md)"),
        ("INSTALL.md", "installation.md", "[`file`](requirements.txt)", "`file`"),
        ("docs/web.md", "web.md", "[x](https://a.org/b)", "[x](https://a.org/b)"),
        ("docs/web.md", "web.md", "[x](absent.txt)", "[x](absent.txt)"),
    ],
)
def test_links_work_where_the_page_lies_on_the_site(hooks, source, page, written, on_site):
    changed = hooks.LINK.sub(
        lambda link: hooks.site_link(link, PurePosixPath(source), PurePosixPath(page)), written
    )
    assert changed == on_site


def test_missing_pages_leave_the_navigation_and_no_other_does(hooks):
    nav = [{"Home": "index.md"}, {"Guide": ["models/index.md", {"Tiling": "tiling.md"}, {"Web": "web.md"}]}]
    assert hooks.without(nav, {"tiling.md"}) == [nav[0], {"Guide": ["models/index.md", {"Web": "web.md"}]}]


def test_every_key_of_the_config_is_in_a_table_with_its_default(hooks):
    before, after = get_cfg(), get_cfg()
    add_insta_rtdetr_config(after)
    known = flat_values(before)
    added = {key for key, value in flat_values(after).items() if key not in known and not isinstance(value, dict)}
    tables = hooks.config_tables(hooks.CONFIG_FILE.read_text())
    listed = set(re.findall(r"`([A-Z0-9_.]+)` = `", tables))
    assert len(added) > 80 and added <= listed
    assert "`INPUT.FILL_LEVEL` = `0` | Training: grey level, 0 to 255," in tables


def test_sizes_in_tables_are_not_broken(hooks):
    html = "<td>640 x 864</td><td>up to 640 x 864</td>"
    assert hooks.on_page_content(html, None, None, None) == "<td>640&nbsp;x&nbsp;864</td><td>up to 640 x 864</td>"


def test_keys_below_one_comment_share_a_row(hooks):
    source = "def _add_input_keys(cfg):\n    # Both | of\n    # them.\n    cfg.A.B = 1\n    cfg.A.C = (2, 3)\n"
    assert hooks.config_tables(source).splitlines()[-1] == "| `A.B` = `1`<br>`A.C` = `(2, 3)` | Both \\| of them. |"
