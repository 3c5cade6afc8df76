"""Tests that the five published FastInst models give the original's numbers."""

import json

import numpy as np
import pytest
import torch

from insta_rtdetr.checkpoint.fastinst import from_original
from insta_rtdetr.structures import Match, Target
from tests.parity.recipe import image_for, tensor_for
from tests.parity.reference import (
    FOLDER,
    original_state_dict,
    predict_reference_image,
    published_model,
    reference_outputs,
)
from tests.tiny import tiny_fastinst

# Each model is tested without folding (False) or with it, and the first, which has every module, in both ways.
CASES = [
    ("fastinst_R50_ppm-fpn_x1_576", (False, True)),
    ("fastinst_R50_ppm-fpn_x3_640", (True,)),
    ("fastinst_R101_ppm-fpn_x3_640", (True,)),
    ("fastinst_R50-vd-dcn_ppm-fpn_x1_576", (True,)),
    ("fastinst_R50-vd-dcn_ppm-fpn_x3_640", (False,)),
]


@pytest.mark.parametrize(("name", "ways"), CASES, ids=[name for name, _ in CASES])
def test_network_outputs_and_final_objects_equal_the_originals(name, ways, tmp_path):
    checkpoint = {"model": original_state_dict(name), "optimizer": {"state": {}}, "iteration": 368749}
    torch.save(checkpoint, tmp_path / "original.pth")
    model = published_model(name, tmp_path / "original.pth")
    for fused in ways:
        assert_same_outputs_and_objects(model.fuse() if fused else model, name)


def assert_same_outputs_and_objects(model, name):
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs(name).items()}
    prediction, result = predict_reference_image(model, name, expected["orig"])

    masks = prediction.mask_logits[0, :, 3::8, 5::8].float()
    torch.testing.assert_close(prediction.class_logits[0].float(), expected["pred_logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(masks, expected["pred_masks_sub"], atol=1e-4, rtol=0)
    torch.testing.assert_close(result.scores.float(), expected["scores"], atol=1e-4, rtol=0)
    assert result.pred_classes.tolist() == expected["classes"].tolist()
    areas = result.pred_masks.sum((1, 2)).float()
    torch.testing.assert_close(areas, expected["mask_areas"].float(), atol=2, rtol=0.005)


class GivenMatch(torch.nn.Module):
    """A matcher that returns a given match."""

    def __init__(self, match):
        super().__init__()
        self.match = match

    def forward(self, predictions, targets):
        return [self.match] * len(predictions)


def test_training_outputs_equal_the_originals():
    """The outputs include those of the second pass, with the targets' masks.

    fastinst_training.npz has the outputs of the original's head in training (float64, two layers, 32 channels, 16
    queries, ResNet-18) with the weights and images of recipe.py: first the guided layers, then the others.
    """
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs("fastinst_training").items()}
    shapes = json.loads((FOLDER / "fastinst_training.keys.json").read_text())
    original = {name: torch.from_numpy(np.asarray(tensor_for(name, shape))) for name, shape in shapes.items()}
    model = tiny_fastinst(
        "MODEL.DECODER.NUM_LAYERS", 2, "MODEL.DECODER.NUM_QUERIES", 16, "MODEL.DECODER.POSITION_SIDE", 4,
        "MODEL.RESNETS.NORM", "FrozenBN",
    ).double()  # fmt: skip
    model.load_state_dict(from_original(original))
    side = int(expected["size"])
    images = torch.stack([torch.from_numpy(image_for(side, side, i)).permute(2, 0, 1) for i in range(2)])
    images = (images - model.preprocessor.pixel_mean) / model.preprocessor.pixel_std
    targets = []
    for i in range(2):
        rectangles = expected[f"rectangles{i}"]
        masks = torch.zeros(len(rectangles), side, side, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, rectangles.tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        targets.append(Target(expected[f"labels{i}"], rectangles / side, masks))
    pairs = [(expected[f"query{i}"], expected[f"target{i}"]) for i in range(2)]
    model.criterion.matcher = GivenMatch(Match.from_images(pairs, torch.device("cpu")))

    output = model.run_network(images, targets)
    predictions = output.guided.layers + output.layers
    assert len(predictions) == 5
    for i, prediction in enumerate(predictions):
        torch.testing.assert_close(prediction.class_logits.float(), expected[f"logits{i}"], atol=1e-4, rtol=0)
        masks = prediction.mask_logits[:, :, 1::4, 2::4].float()
        torch.testing.assert_close(masks, expected[f"masks{i}"], atol=1e-4, rtol=0)
        torch.testing.assert_close(prediction.query_points.float(), expected["query_points"])
    torch.testing.assert_close(output.proposal_logits.float(), expected["proposal_logits"], atol=1e-4, rtol=0)
