"""Tests that losses are those that this package computed before its training was made faster."""

import json
from pathlib import Path

import pytest

from tests.engine.fixed_losses import MODELS, losses_of

FILE = Path(__file__).parents[1] / "parity" / "training_losses.json"


@pytest.mark.parametrize("name", MODELS)
def test_losses_of_two_iterations_are_those_of_the_slower_training(name):
    expected = json.loads(FILE.read_text())[name]
    for found, wanted in zip(losses_of(name), expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9)
