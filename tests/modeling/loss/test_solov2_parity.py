"""SOLOv2's assignment, losses and gradients equal those that PaddleDetection computes from the same made-up outputs.

solov2_losses.npz was made by tests/parity/make_solov2_reference.py.
"""

import numpy as np
import pytest
import torch

from insta_rtdetr.layers.boxes import xyxy_to_cxcywh
from insta_rtdetr.modeling.loss import GridCriterion
from insta_rtdetr.modeling.loss.functions import reduce_masks
from insta_rtdetr.modeling.loss.grid_criterion import owns_cell
from insta_rtdetr.structures import Memory, ModelOutput, Prediction, Target
from tests.parity.make_solov2_reference import GRADIENT_STEP
from tests.parity.reference import reference_outputs
from tests.parity.solov2_recipe import (
    GRID_SIDES,
    INPUT_SIZE,
    MASK_STRIDE,
    NUM_CLASSES,
    OBJECTS,
    made_up_objects,
    made_up_outputs,
)
from tests.tiny import tiny_solov2_config

FIRST_CELLS = np.cumsum([0, *(side**2 for side in GRID_SIDES)])


@pytest.fixture(scope="module")
def reference():
    return reference_outputs("solov2_losses")


@pytest.fixture(scope="module")
def criterion():
    ranges = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    return GridCriterion(
        tiny_solov2_config("MODEL.DECODER.GRID_SIDES", GRID_SIDES, "MODEL.MATCHER.SCALE_RANGES", ranges)
    )


@pytest.fixture(scope="module")
def targets():
    height, width = INPUT_SIZE
    made = []
    for image in range(len(OBJECTS)):
        classes, boxes, masks = (torch.from_numpy(values) for values in made_up_objects(image))
        boxes = xyxy_to_cxcywh(boxes / torch.tensor([width, height, width, height]))
        made.append(Target(classes, boxes, masks))
    return made


@pytest.fixture
def outputs():
    return {name: torch.from_numpy(values).requires_grad_() for name, values in made_up_outputs().items()}


def prediction(outputs):
    logits, kernels = (
        Memory.of_levels([outputs[f"{name}{i}"] for i in range(len(GRID_SIDES))]).tokens
        for name in ("class_logits", "kernels")
    )
    return Prediction(logits, mask_embeddings=kernels, mask_features=outputs["mask_features"])


def test_cells_and_their_classes_and_masks_equal_the_originals(reference, criterion, targets, outputs):
    (match,) = criterion.matcher([prediction(outputs)], targets)
    is_owner = owns_cell(match, (len(OBJECTS), FIRST_CELLS[-1], NUM_CLASSES))
    assert not is_owner.all()
    for image, target in enumerate(targets):
        areas = reduce_masks_as_the_original(target.masks).sum((1, 2))
        labels = torch.zeros(FIRST_CELLS[-1], dtype=torch.int64)
        own = (match.image == image) & is_owner
        labels[match.query[own]] = target.classes[match.object[own]] + 1
        assert labels.tolist() == reference[f"labels/{image}"].tolist()
        for i, (first, after_last) in enumerate(zip(FIRST_CELLS[:-1], FIRST_CELLS[1:], strict=True)):
            here = (match.image == image) & (match.query >= first) & (match.query < after_last)
            cells, areas_here = match.query[here] - first, areas[match.object[here]]
            assert cells[areas_here > 0].tolist() == reference[f"cells/{image}/{i}"].tolist()
            assert areas_here[areas_here > 0].tolist() == reference[f"areas/{image}/{i}"].tolist()


def reduce_masks_as_the_original(masks):
    """Half of the four pixels that are read are enough; `reduce_masks` wants more than half."""
    size = tuple(side // MASK_STRIDE for side in masks.shape[1:])
    return ~reduce_masks(~masks, size)


def test_losses_and_their_gradients_equal_the_originals(reference, criterion, targets, outputs):
    losses = criterion(ModelOutput([prediction(outputs)]), targets)
    assert losses["loss_dice"].item() == pytest.approx(reference["loss/loss_ins"].item(), rel=1e-6)
    assert losses["loss_ce"].item() == pytest.approx(reference["loss/loss_cate"].item(), rel=1e-6)
    gradients = torch.autograd.grad(sum(losses.values()), list(outputs.values()))
    for name, gradient in zip(outputs, gradients, strict=True):
        expected = torch.from_numpy(reference[f"gradient/{name}"])
        found = gradient.flatten()[::GRADIENT_STEP].float()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8, msg=name)
