"""The wheel has all that a model needs.  tools/check_wheel.py installs it and predicts with it."""

import importlib.util
import tarfile
import zipfile
from pathlib import Path

import pytest

from insta_rtdetr.zoo import config_files

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Folder with the sdist, and the wheel that was built from the sdist."""
    spec = importlib.util.spec_from_file_location("check_wheel", REPOSITORY / "tools/check_wheel.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.build(tmp_path_factory.mktemp("dist")).parent


@pytest.fixture(scope="module")
def in_wheel(built) -> set[str]:
    (wheel,) = built.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def below(folder: str, pattern: str) -> set[str]:
    return {str(file.relative_to(REPOSITORY / folder)) for file in (REPOSITORY / folder).glob(pattern)}


def test_all_modules_and_their_data_are_in_the_wheel(in_wheel):
    for pattern in ("**/*.py", "zoo/*.json", "web/page/*", "web/photographs/*"):
        assert {f"insta_rtdetr/{file}" for file in below("insta_rtdetr", pattern)} <= in_wheel


def test_configs_and_shipped_weights_are_in_the_wheel(in_wheel):
    assert len(config_files()) > 20
    assert {f"insta_rtdetr/configs/{file}" for file in below("configs", "**/*.yaml")} <= in_wheel
    assert "insta_rtdetr/weights/quickstart_MNV2_D3_256.pth" in in_wheel
    assert {f"insta_rtdetr/weights/{file}" for file in below("demo/weights", "*.pth")} <= in_wheel


def test_of_the_tools_only_the_one_that_installs_detectron2_is_in_the_wheel(in_wheel):
    tools = {name for name in in_wheel if name.startswith("insta_rtdetr/tools/")}
    assert tools == {f"insta_rtdetr/tools/{name}.py" for name in ("install_detectron2", "detectron2_edits")}


def test_nothing_else_is_in_the_wheel(in_wheel):
    assert {name.partition("/")[0] for name in in_wheel} == {"insta_rtdetr", "insta_rtdetr-0.1.0.dist-info"}
    assert not [name for name in in_wheel if "__pycache__" in name]


def test_the_sdist_has_what_the_wheel_is_built_from(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "demo/weights/quickstart_MNV2_D3_256.pth"} <= names
