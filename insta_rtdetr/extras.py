"""Import of packages that only a part of the library needs.  pyproject.toml lists them as extras."""

import importlib
from types import ModuleType

from insta_rtdetr.errors import UserError


def import_extra(name: str, extra: str = "export") -> ModuleType:
    """Import a module of a package that belongs to an extra.

    Args:
        name: name of the module.
        extra: name of the extra in pyproject.toml's optional dependencies, for the message.

    Raises:
        UserError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UserError(f"This needs the package {package}.  Run: pip install 'insta_rtdetr[{extra}]'") from error
