"""Reading yaml from strangers: plain values only, of bounded size and depth."""

import math
from typing import Any

import yaml

from insta_rtdetr.errors import UserError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 100_000
_OPENING = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken,
            yaml.FlowSequenceStartToken)  # fmt: skip
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def read_plain_yaml(text: str, origin: str) -> Any:
    """Return the value of a yaml text.

    Args:
        text: the text.
        origin: where it comes from, for the messages.

    Raises:
        UserError: it is no yaml, or wants objects of Python (!!python/...), which could run code, or uses aliases or
            nesting, with which a few bytes could fill the memory.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{origin} has {len(text):,} characters, wanted a config of at most {MAX_BYTES:,}.")
    try:
        _check_tokens(text, origin)
        value = yaml.safe_load(text)
    except yaml.constructor.ConstructorError as error:
        raise UserError(f"{origin} is not plain yaml: {error.problem}.  Write the value itself.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{origin} is not valid yaml: {error}") from error
    if _count_values(value, {}) > MAX_VALUES:
        raise UserError(f"{origin} repeats values by aliases (*name) more than {MAX_VALUES:,} times.")
    return value


def _check_tokens(text: str, origin: str) -> None:
    # The parser would go through all levels before anybody could ask how many there are.
    depth = 0
    for token in yaml.scan(text):
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise UserError(f"{origin} is nested more than {MAX_DEPTH} levels deep, which no config is.")


def _count_values(value: Any, known: dict[int, float]) -> float:
    """Count the values in a tree, those that aliases repeat as often as they do; infinite if one contains itself."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if id(value) not in known:
        known[id(value)] = math.inf
        known[id(value)] = 1 + sum(_count_values(child, known) for child in children)
    return known[id(value)]
