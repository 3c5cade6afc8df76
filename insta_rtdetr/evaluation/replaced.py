"""A context that replaces an attribute of another package's module."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a module within the context, and restore it afterwards."""
    before = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name) if before is None else setattr(module, name, before)
