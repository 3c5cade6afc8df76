"""Packaging of files that lie beside the package, which pyproject.toml cannot express; everything else is there.

    in the repository                  in a wheel
    configs/                           insta_rtdetr/configs/
    demo/weights/                      insta_rtdetr/weights/
    tools/install_detectron2.py        insta_rtdetr/tools/install_detectron2.py, with what it imports
"""

from setuptools import find_namespace_packages, find_packages, setup
from setuptools.command.build_py import build_py

# No package index has a Detectron2 that installs, so that a wheel brings the tool that makes one.
PACKAGED_TOOLS = ("install_detectron2", "detectron2_edits")


class BuildPy(build_py):
    """Leaves the tools out that need a checkout."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return (package, module, file) of the modules that go into the wheel."""
        modules = super().find_package_modules(package, package_dir)
        return [found for found in modules if package != "insta_rtdetr.tools" or found[1] in PACKAGED_TOOLS]


BESIDE = {"insta_rtdetr.configs": "configs", "insta_rtdetr.weights": "demo/weights", "insta_rtdetr.tools": "tools"}
# setuptools takes every folder for a package.
CONFIG_FOLDERS = [f"insta_rtdetr.configs.{name}" for name in find_namespace_packages("configs")]
PACKAGES = find_packages(include=["insta_rtdetr", "insta_rtdetr.*"])

setup(
    packages=[*PACKAGES, "insta_rtdetr.web.page", "insta_rtdetr.web.photographs", *BESIDE, *CONFIG_FOLDERS],
    package_dir=BESIDE,
    package_data={
        **{folder: ["*.yaml"] for folder in CONFIG_FOLDERS},
        "insta_rtdetr.weights": ["*.pth"],
        "insta_rtdetr.web.page": ["*"],
        "insta_rtdetr.web.photographs": ["*.jpg"],
        "insta_rtdetr.zoo": ["*.json"],
    },
    cmdclass={"build_py": BuildPy},
)
