"""Tests that FastInst's matches and losses equal those that the original computes from the same network outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from insta_rtdetr.modeling.loss import SoftmaxCriterion
from insta_rtdetr.structures import ModelOutput, Prediction, Target
from tests.tiny import tiny_fastinst_config

FILE = Path(__file__).parents[2] / "parity" / "fastinst_losses.npz"


@pytest.fixture(scope="module")
def reference():
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(FILE).items()}


@pytest.fixture(scope="module")
def criterion():
    return SoftmaxCriterion(
        tiny_fastinst_config("MODEL.NUM_CLASSES", 80, "MODEL.LOSS.NUM_POINTS", 12544, "MODEL.MATCHER.NUM_POINTS", 12544)
    )


def prediction(reference, name):
    embeddings = reference[f"{name}/mask_logit_constant"][..., None]
    features = torch.ones(2, 1, 32, 32)
    return Prediction(
        reference[f"{name}/class_logits"], None, embeddings, features, query_points=reference["query_locations_xy"]
    )


def targets(reference):
    side = int(reference["image_size"])
    found = []
    for i in range(2):
        rectangles = reference[f"target{i}/rectangles_xyxy"]
        masks = torch.zeros(len(rectangles), side, side, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, rectangles.tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        found.append(Target(reference[f"target{i}/labels"], rectangles.float() / side, masks))
    return found


def assert_same_pairs(match, reference, name):
    for image in range(2):
        here = match.image == image
        assert match.query[here].tolist() == reference[f"match/{name}/{image}/query"].tolist()
        assert match.object[here].tolist() == reference[f"match/{name}/{image}/target"].tolist()


def test_matches_equal_the_originals(reference, criterion):
    (match,) = criterion.matcher([prediction(reference, "layer1")], targets(reference))
    assert_same_pairs(match, reference, "layer1")
    proposals = criterion.matcher.match_proposals(reference["proposal_class_logits"], targets(reference))
    assert_same_pairs(proposals, reference, "proposal")


def test_losses_equal_the_originals(reference, criterion):
    layers = [prediction(reference, f"layer{i}") for i in range(2)]
    output = ModelOutput(layers, proposal_logits=reference["proposal_class_logits"])
    weights = {"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 5.0, "loss_proposal": 20.0}
    draws = []
    for seed in range(8):
        torch.manual_seed(seed)
        draws.append(criterion(output, targets(reference)))
    expected = {k.removeprefix("loss_unweighted/"): float(v) for k, v in reference.items() if "unweighted" in k}
    assert set(draws[0]) == set(expected)
    for name, value in expected.items():
        mean = float(np.mean([float(draw[name]) for draw in draws])) / weights[name.removesuffix("_0")]
        # Two means of eight draws differ by more only once in a thousand times.
        tolerance = 3.3 * float(reference[f"loss_spread/{name}"]) * (2 / 8) ** 0.5
        assert mean == pytest.approx(value, abs=max(tolerance, 2e-5)), name
