"""Packages that only a part of the library needs; pyproject.toml lists them under the extra of that part."""

import importlib
from types import ModuleType

from insta_rtdetr.errors import UserError


def import_extra(name: str, extra: str = "export") -> ModuleType:
    """Import a package of an extra.

    Args:
        name: of the module.
        extra: of pyproject.toml's optional dependencies.

    Raises:
        UserError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UserError(f"This needs the package {package}.  Run: pip install 'insta_rtdetr[{extra}]'") from error
