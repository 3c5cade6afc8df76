"""Files around the code agree with it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import insta_rtdetr

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == insta_rtdetr.__version__ == citation["version"]
    assert PROJECT["license"] == citation["license"]


@pytest.mark.parametrize("file", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.name)
def test_issue_templates_have_what_a_form_needs(file):
    content = yaml.safe_load(file.read_text())
    if file.name == "config.yml":
        assert content == {"blank_issues_enabled": False}
        return
    assert content["name"] and content["description"]
    for field in content["body"]:
        assert field["type"] == "textarea" and field["attributes"]["label"]


def test_every_package_of_an_extra_is_pinned():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    # The Makefile installs one package without what it depends on.
    lines += [word for word in (ROOT / "Makefile").read_text().split() if re.fullmatch(r"\w+==[\d.]+", word)]
    pinned = {line.partition("==")[0].partition("[")[0] for line in lines if "==" in line}
    extras = PROJECT["optional-dependencies"]
    named = {word.partition(">")[0].partition("[")[0] for name in extras if name != "wandb" for word in extras[name]}
    assert named <= pinned


def test_the_readme_has_at_most_200_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
