"""Packaging of configs/, which pyproject.toml cannot express; everything else is there.

configs/ lies beside the package in the repository, but in it (insta_rtdetr/configs) once installed from a wheel.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["insta_rtdetr", "insta_rtdetr.*"]), "insta_rtdetr.configs"],
    package_dir={"insta_rtdetr.configs": "configs"},
    package_data={
        "insta_rtdetr.configs": ["**/*.yaml"],
        "insta_rtdetr.web": ["page/*"],
        "insta_rtdetr.zoo": ["*.json"],
    },
)
