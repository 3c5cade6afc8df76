"""Tests that Mask-RT-DETR's losses equal those that the original computes from the same network outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from insta_rtdetr.modeling.loss import SetCriterion
from insta_rtdetr.structures import DenoisingPredictions, ModelOutput
from tests.modeling.loss.test_parity import prediction, targets
from tests.tiny import tiny_mask_rtdetr_config

FILE = Path(__file__).parents[2] / "parity" / "mask_rtdetr_losses.npz"
NAMES = {
    "loss_class": "loss_vfl", "loss_bbox": "loss_bbox", "loss_giou": "loss_giou",
    "loss_mask": "loss_mask_bce", "loss_dice": "loss_mask_dice",
}  # fmt: skip
# The original adds up the losses of the encoder, of the queries before the first layer, and of all layers but the last.
SUFFIXES = {"": [""], "_aux": ["_enc", "_aux_0", "_aux_1"], "_dn": ["_dn"], "_aux_dn": ["_dn_0", "_dn_1"]}
DRAWS = 8


@pytest.fixture(scope="module")
def reference():
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(FILE).items()}


def test_losses_equal_the_originals(reference):
    points = ("MODEL.NUM_CLASSES", 80, "MODEL.LOSS.NUM_POINTS", 12544, "MODEL.MATCHER.NUM_POINTS", 12544)
    criterion = SetCriterion(tiny_mask_rtdetr_config(*points))
    output = ModelOutput(
        [prediction(reference, name) for name in ("initial", "layer0", "layer1")],
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
    for original, ours in NAMES.items():
        for kind, suffixes in SUFFIXES.items():
            expected, spread = (float(reference[f"{group}/{original}{kind}"]) for group in ("loss", "loss_spread"))
            mean = float(np.mean([sum(float(draw[ours + suffix]) for suffix in suffixes) for draw in draws]))
            # Two means of eight draws differ by more only once in a thousand times; the rest is float32 rounding.
            tolerance = 3.3 * spread * (2 / DRAWS) ** 0.5 + 1e-5 * expected
            assert mean == pytest.approx(expected, abs=tolerance), original + kind
    assert len(draws[0]) == len(NAMES) * sum(map(len, SUFFIXES.values()))
