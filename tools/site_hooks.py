"""Hooks of mkdocs.yml: pages that lie outside docs/, links into the repository, and pages that may be missing."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Files of the repository that are pages of the site too, under the same path.
OUTSIDE = ("INSTALL.md", "CONTRIBUTING.md", "datasets/README.md")
# Pages of the navigation that belong to work which may not be there.
OPTIONAL = ("reliability.md", "tiling.md")
# [text](target) and ![text](target), the target without a scheme.
LINK = re.compile(r"(!?\[[^\]]*\])\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


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
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links work that are right in the repository, where pages lie in other folders than on the site."""
    uri = page.file.src_uri
    source = PurePosixPath(uri if uri in OUTSIDE else f"docs/{uri}")
    return LINK.sub(lambda link: site_link(link, source, PurePosixPath(uri)), markdown)


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
    if in_repository.parts[0] == "docs":
        on_site = in_repository.relative_to("docs")
    elif str(in_repository) in OUTSIDE:
        on_site = in_repository
    elif (ROOT / in_repository).exists():
        return text.removeprefix("[").removesuffix("]")
    else:
        return link[0]
    return f"{text}({os.path.relpath(on_site, uri.parent)}{anchor})"
