"""Hooks of mkdocs.yml: pages that lie outside docs/, links into the repository, missing pages, config keys."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Files of the repository that are pages of the site too, and their paths there.
OUTSIDE = {"INSTALL.md": "installation.md", "CONTRIBUTING.md": "contributing.md", "datasets/README.md": "data.md"}
SOURCES = {page: source for source, page in OUTSIDE.items()}
# Pages of the navigation that belong to work which may not be there.
OPTIONAL = ("reliability.md", "tiling.md")
# [text](target) and ![text](target), the target without a scheme.
LINK = re.compile(r"(!?\[[^\]]*\])\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
SIZE_CELL = re.compile(r"<td>(\d+) x (\d+)</td>")
CONFIG_FILE = ROOT / "insta_rtdetr/config.py"
CONFIG_TABLES = "<!-- config keys -->"
SECTION = re.compile(r"def _add_(\w+)_keys\(")
KEY = re.compile(r"    cfg\.([A-Z0-9_.]+) = (.+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave the optional pages that do not exist out of the navigation."""
    missing = {page for page in OPTIONAL if not (ROOT / "docs" / page).is_file()}
    config.nav = without(config.nav, missing)
    return config


def without(nav: list[Any], missing: set[str]) -> list[Any]:
    """Return the navigation without the pages that are missing."""
    kept = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, target),) = entry.items()
            if isinstance(target, list):
                entry = {title: without(target, missing)}
            elif target in missing:
                continue
        kept.append(entry)
    return kept


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links work that are right in the repository, where pages lie in other folders, and add the config keys."""
    uri = page.file.src_uri
    source = PurePosixPath(SOURCES.get(uri, f"docs/{uri}"))
    markdown = LINK.sub(lambda link: site_link(link, source, PurePosixPath(uri)), markdown)
    return markdown.replace(CONFIG_TABLES, config_tables(CONFIG_FILE.read_text(encoding="utf-8")))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep sizes such as "640 x 640" on one line of a table's narrow column."""
    return SIZE_CELL.sub("<td>\\1&nbsp;x&nbsp;\\2</td>", html)


def site_link(link: re.Match, source: PurePosixPath, uri: PurePosixPath) -> str:
    """Return a link as the site has it.

    Args:
        link: a match of LINK.
        source: path of the page in the repository.
        uri: path of the page among the pages of the site.

    Returns:
        a link to the page or image of the site; of a file that is none, the text alone.
    """
    text, target, anchor = link[1], link[2], link[3] or ""
    in_repository = PurePosixPath(os.path.normpath(source.parent / target))
    if str(in_repository) in OUTSIDE:
        on_site = PurePosixPath(OUTSIDE[str(in_repository)])
    elif in_repository.parts[0] == "docs":
        on_site = in_repository.relative_to("docs")
    elif (ROOT / in_repository).exists():
        return text.removeprefix("[").removesuffix("]")
    else:
        return link[0]
    return f"{text}({os.path.relpath(on_site, uri.parent)}{anchor})"


def config_tables(source: str) -> str:
    """Return the keys of insta_rtdetr/config.py as Markdown, a table for each function."""
    parts = []
    for section, groups in read_config(source):
        rows = [
            "| " + "<br>".join(f"`{key}` = `{default}`" for key, default in keys) + f" | {meaning} |"
            for keys, meaning in groups
        ]
        parts.append("\n".join([f"## {section.capitalize()}", "", "| key and default | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def read_config(source: str) -> Iterator[tuple[str, list[tuple[list[tuple[str, str]], str]]]]:
    """Yield (section, groups of keys); a group is ([(key, default), ...], the comment above them)."""
    starts = [*SECTION.finditer(source)]
    for start, end in zip(starts, [*(match.start() for match in starts[1:]), len(source)]):
        groups: list[tuple[list[tuple[str, str]], str]] = []
        comment: list[str] = []
        for line in source[start.end() : end].splitlines():
            if line.strip().startswith("#"):
                comment.append(line.strip().removeprefix("#").strip())
            elif (key := KEY.match(line)) and key[2] != "CfgNode()":
                if comment or not groups:
                    groups.append(([], " ".join(comment).replace("|", "\\|")))
                    comment = []
                groups[-1][0].append((key[1], key[2]))
        yield start[1], groups
