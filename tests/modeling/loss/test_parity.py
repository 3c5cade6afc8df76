"""Tests that matches and losses equal those that the original computes from the same network outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from insta_rtdetr.modeling.loss import SetCriterion
from insta_rtdetr.structures import DenoisingPredictions, ModelOutput, Prediction, Target
from tests.tiny import tiny_config

FILE = Path(__file__).parents[2] / "parity" / "insta_rtdetr_losses.npz"
# Variation of the original's own mask losses with the points that it draws (README of the reference outputs).
MASK_LOSS_SPREAD = 0.003


@pytest.fixture(scope="module")
def reference():
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(FILE).items()}


@pytest.fixture(scope="module")
def criterion():
    return SetCriterion(
        tiny_config("MODEL.NUM_CLASSES", 80, "MODEL.LOSS.NUM_POINTS", 12544, "MODEL.MATCHER.NUM_POINTS", 12544)
    )


def prediction(reference, name):
    constant = reference.get(f"{name}/mask_logit_constant")
    embeddings = None if constant is None else constant[..., None]
    features = None if constant is None else torch.ones(2, 1, 40, 40)
    return Prediction(reference[f"{name}/class_logits"], reference[f"{name}/boxes_cxcywh"], embeddings, features)


def targets(reference):
    return [
        Target(labels, reference[f"target{i}/boxes_cxcywh"], torch.ones(len(labels), 160, 160, dtype=torch.bool))
        for i, labels in ((i, reference[f"target{i}/labels"]) for i in range(2))
    ]


def assert_same_matches(reference, criterion, name):
    (match,) = criterion.matcher([prediction(reference, name)], targets(reference))
    for image in range(2):
        here = match.image == image
        assert match.query[here].tolist() == reference[f"match/{name}/{image}/query"].tolist()
        assert match.object[here].tolist() == reference[f"match/{name}/{image}/target"].tolist()


@pytest.mark.parametrize("name", ["layer0", "layer1", "layer2", "encoder"])
def test_matches_equal_the_originals(reference, criterion, name):
    assert_same_matches(reference, criterion, name)


def test_losses_equal_the_originals(reference, criterion):
    output = ModelOutput(
        [prediction(reference, f"layer{i}") for i in range(3)],
        prediction(reference, "encoder"),
        DenoisingPredictions(
            [prediction(reference, f"dn_layer{i}") for i in range(3)], int(reference["dn_groups"])
        ),
    )
    draws = []
    for seed in range(4):
        torch.manual_seed(seed)
        draws.append(criterion(output, targets(reference)))
    expected = {k.removeprefix("loss/"): float(v) for k, v in reference.items() if k.startswith("loss/")}
    assert {name.replace("_enc", "_aux_2") for name in draws[0]} == set(expected)
    for name in draws[0]:
        mean = float(np.mean([float(draw[name]) for draw in draws]))
        tolerance = MASK_LOSS_SPREAD if "mask" in name else 2e-5
        assert mean == pytest.approx(expected[name.replace("_enc", "_aux_2")], abs=tolerance), name
