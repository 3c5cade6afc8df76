"""The packages that only exports need."""

import importlib
from types import ModuleType

from insta_rtdetr.errors import UserError


def import_extra(name: str) -> ModuleType:
    """Import one.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"This needs the package {name}.  Run: pip install 'insta_rtdetr[export]'") from error
