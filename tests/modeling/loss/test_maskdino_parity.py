"""Tests that Mask DINO's matches, losses and gradients equal those of the original for the same network outputs.

maskdino_losses.npz was made by tests/parity/make_maskdino_reference.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from insta_rtdetr.modeling.loss import FocalCriterion
from insta_rtdetr.structures import DenoisingPredictions, ModelOutput
from tests.modeling.loss.test_parity import assert_same_matches, prediction, targets
from tests.tiny import tiny_maskdino_config

FILE = Path(__file__).parents[2] / "parity" / "maskdino_losses.npz"
# End of the original's names -> end of ours.
SUFFIXES = {
    "_interm": "_enc", "_dn_0": "_dn_0", "_dn_1": "_dn_1", "_dn": "_dn", "_0": "_aux_0", "_1": "_aux_1", "": "",
}  # fmt: skip
# Number of draws of the points at which masks are compared, here and in the reference.
DRAWS, REFERENCE_DRAWS = 2, 8
# The original adds 1e-6 to the denominators of IoU and GIoU; the boxes' sides are at least 0.05, the weight is 2.
EPSILON_EFFECT = 2 * 2 * 1e-6 / 0.05**2


@pytest.fixture(scope="module")
def reference():
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(FILE).items()}


@pytest.fixture(scope="module")
def criterion():
    points = ("MODEL.NUM_CLASSES", 80, "MODEL.LOSS.NUM_POINTS", 12544, "MODEL.MATCHER.NUM_POINTS", 12544)
    return FocalCriterion(tiny_maskdino_config(*points))


def our_name(name):
    """Return the name of a loss for one of the original's names."""
    suffix = next(end for end in SUFFIXES if name.endswith(end))
    return name.removesuffix(suffix) + SUFFIXES[suffix]


@pytest.mark.parametrize("name", ["encoder", "initial", "layer0", "layer1"])
def test_matches_equal_the_originals(reference, criterion, name):
    assert_same_matches(reference, criterion, name)


def test_losses_and_their_gradients_equal_the_originals(reference, criterion):
    last = prediction(reference, "layer1")
    inputs = {"class_logits": last.class_logits.requires_grad_(), "boxes_cxcywh": last.boxes_cxcywh.requires_grad_()}
    output = ModelOutput(
        [prediction(reference, "initial"), prediction(reference, "layer0"), last],
        prediction(reference, "encoder"),
        DenoisingPredictions(
            [prediction(reference, f"dn_{name}") for name in ("initial", "layer0", "layer1")],
            int(reference["dn_groups"]),
        ),
    )
    draws = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        draws.append(criterion(output, targets(reference)))
    expected = {key.removeprefix("loss/"): float(value) for key, value in reference.items() if key.startswith("loss/")}
    assert {our_name(name) for name in expected} == set(draws[0])
    for name, value in expected.items():
        mean = float(np.mean([draw[our_name(name)].item() for draw in draws]))
        # Two such means differ by more only once in a thousand times; the rest is float32 rounding.
        spread = float(reference[f"loss_spread/{name}"]) * (1 / DRAWS + 1 / REFERENCE_DRAWS) ** 0.5
        tolerance = 3.3 * spread + 1e-5 * value
        assert mean == pytest.approx(value, abs=tolerance + EPSILON_EFFECT * ("giou" in name)), name
    gradients = torch.autograd.grad(sum(draws[0].values()), list(inputs.values()))
    for gradient, name in zip(gradients, inputs):
        torch.testing.assert_close(gradient, reference[f"gradient/{name}"], rtol=1e-3, atol=1e-4)
