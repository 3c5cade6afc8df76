"""Tests that RF-DETR-Seg's matches and losses equal those that the original computes from the same network outputs.

rfdetr_seg_losses.npz was made with the original's criterion and matcher (rfdetr 1.11.2, float32) from random outputs of
two decoder layers and the encoder, with 3 groups of 8 queries.  Every mask is one constant logit and every target mask
all ones, so that the drawn points do not matter.  The losses are weighted.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from insta_rtdetr.modeling.loss import IoUAwareCriterion
from insta_rtdetr.structures import ModelOutput, Prediction, Target
from tests.tiny import tiny_rfdetr_seg_config

FILE = Path(__file__).parents[2] / "parity" / "rfdetr_seg_losses.npz"
# The original's names, without the suffix of the layer -> ours.
SUFFIXES = {"": "", "_0": "_aux_0", "_enc": "_enc"}


@pytest.fixture(scope="module")
def reference():
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(FILE).items()}


@pytest.fixture(scope="module")
def criterion():
    return IoUAwareCriterion(tiny_rfdetr_seg_config("MODEL.LOSS.NUM_POINTS", 0, "MODEL.MATCHER.NUM_POINTS", 0))


def prediction(reference, name):
    """Return features and queries whose product is one constant logit for each mask."""
    features = reference[f"{name}/features"][:, :, None, None].expand(-1, -1, 20, 20)
    queries = reference[f"{name}/queries"]
    return Prediction(
        reference[f"{name}/logits"], reference[f"{name}/boxes"], queries, features,
        reference[f"{name}/bias"].expand(queries.shape[:2]),
    )  # fmt: skip


def targets(reference):
    return [
        Target(labels, reference[f"boxes{i}"], torch.ones(len(labels), 40, 40, dtype=torch.bool))
        for i, labels in ((i, reference[f"labels{i}"]) for i in range(2))
    ]


@pytest.mark.parametrize("name", ["layer0", "layer1", "encoder"])
def test_matches_equal_the_originals(reference, criterion, name):
    (match,) = criterion.matcher([prediction(reference, name)], targets(reference), int(reference["groups"]))
    for image in range(2):
        here = match.image == image
        query, target = reference[f"{name}/match{image}"].tolist()
        assert match.query[here].tolist() == query
        assert match.object[here].tolist() == target


def test_losses_and_their_gradients_equal_the_originals(reference, criterion):
    last = prediction(reference, "layer1")
    inputs = [last.class_logits.requires_grad_(), last.boxes_cxcywh.requires_grad_()]
    output = ModelOutput(
        [prediction(reference, "layer0"), last], prediction(reference, "encoder"), groups=int(reference["groups"])
    )
    losses = criterion(output, targets(reference))
    expected = {key.removeprefix("loss/"): float(value) for key, value in reference.items() if key.startswith("loss/")}
    assert len(expected) == len(losses) == 15
    for name, value in expected.items():
        base = name.removesuffix("_0").removesuffix("_enc")
        ours = base + SUFFIXES[name.removeprefix(base)]
        assert losses[ours].item() == pytest.approx(value, rel=1e-5), name
    gradients = torch.autograd.grad(sum(losses.values()), inputs)
    for gradient, name in zip(gradients, ("logits", "boxes"), strict=True):
        torch.testing.assert_close(gradient, reference[f"gradient/{name}"], rtol=1e-4, atol=1e-6)
